package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// HTTP sends the input of each job to a URL, with the input's Content-Type and the
// job's id and attempt as Millstream-Job, Millstream-Attempt and Idempotency-Key.
//
// A 2xx answer of any media type is the result, byte for byte. One of
// text/event-stream or NDJSON (application/x-ndjson, application/jsonl) is relayed
// as it comes: foreign names of events are kept. Redirects are not followed: the
// input goes to the host that the configuration names and to no other.
//
// Unless Idempotent, the request is sent once. If there is no telling what became
// of it, the job fails with outcome-unknown. What is tried again in any case: a
// connection that did not come about, and an answer of 429 or 503.
type HTTP struct {
	URL        string
	Method     string            // "" is POST
	Headers    map[string]string // of the request; the job's own win
	Idempotent bool              // the upstream may be asked any number of times
	Client     *http.Client      // nil is a plain one
}

// quoted is how much of a refusal an error quotes: what a person reads.
const quoted = 2 << 10

// Func returns the Func that asks the URL.
func (h HTTP) Func() Func { return h.run }

func (h HTTP) run(ctx context.Context, t *Task) (any, error) {
	var wire forward.Wire
	req, err := h.request(httptrace.WithClientTrace(ctx, wire.Trace()), t)
	if err != nil {
		t.log.Error("request cannot be made", zap.Error(err))
		return nil, job.Problemf("upstream-failed", "the request could not be made")
	}
	resp, err := h.send(req)
	if err != nil {
		return nil, h.failed(t, err, wire.Untouched())
	}
	defer resp.Body.Close()
	if err := forward.Final(resp); err != nil {
		return nil, h.failed(t, err, false)
	}
	if resp.StatusCode > 299 {
		return nil, h.refused(resp)
	}
	v, err := answer(t, resp)
	if err != nil {
		return nil, h.failed(t, err, false)
	}
	s := settled{value: v}
	if !h.Idempotent {
		s.lost = job.Problemf("outcome-unknown", "the upstream has answered, but the answer could not be stored")
	}
	return s, nil
}

func (h HTTP) request(ctx context.Context, t *Task) (*http.Request, error) {
	method := h.Method
	if method == "" {
		method = http.MethodPost
	}
	body, err := t.OpenInput(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, h.URL, body)
	if err != nil {
		body.Close()
		return nil, err
	}
	if req.ContentLength = t.InputSize(); req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return t.OpenInput(ctx) }
	if t.InputType() != "" {
		req.Header.Set("Content-Type", t.InputType())
	}
	req.Header.Set("User-Agent", "millstream")
	req.Header.Set("Accept-Encoding", "identity") // the result is the bytes as they come
	for name, value := range h.Headers {
		req.Header.Set(name, value)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Set("Millstream-Job", string(t.ID()))
	req.Header.Set("Millstream-Attempt", strconv.Itoa(t.Attempt()))
	req.Header.Del("Idempotency-Key")
	if h.Idempotent {
		req.Header.Set("Idempotency-Key", string(t.ID()))
	} else { // spelled so that net/http does not see it: it would send the request again by itself
		req.Header["idempotency-key"] = []string{string(t.ID())}
	}
	return req, nil
}

func (h HTTP) send(req *http.Request) (*http.Response, error) {
	if h.Client != nil {
		return forward.Straight(h.Client).Do(req)
	}
	return forward.Send(req, h.Idempotent)
}

// failed is the error of a request that was not answered, or not to the end.
func (h HTTP) failed(t *Task, err error, untouched bool) error {
	return t.upstreamFailed(err, untouched, h.Idempotent)
}

// upstreamFailed is the error of a request to an upstream that was not answered, or not to
// the end. What the network says about it names addresses, so that goes to the log.
func (t *Task) upstreamFailed(err error, untouched, idempotent bool) error {
	var p *job.Problem
	if errors.As(err, &p) && !p.Retryable && !p.Is(job.ErrDraining) {
		return err // what we made of the answer; a stop of the server says nothing of the upstream
	}
	t.log.Warn("upstream failed", zap.Bool("sent", !untouched), zap.Error(err))
	how := "the upstream did not answer to the end"
	if errors.Is(err, sse.ErrUnfinished) {
		how = "the upstream's event stream ended in the middle of an event"
	}
	return forward.Failed(untouched, idempotent, how)
}

// refused is the error of an answer that is not a success.
func (h HTTP) refused(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, quoted)) // a refusal cut short is still one
	p := job.Problemf("upstream-status", "the upstream answered %s", resp.Status)
	if text = bytes.TrimSpace(text); len(text) > 0 {
		p.Detail += ": " + strings.ToValidUTF8(string(text), "\uFFFD")
	}
	switch code := resp.StatusCode; {
	case forward.Later(code):
		p.Retryable = true
	default:
		p.Retryable = h.Idempotent && code >= 500
	}
	if p.Retryable {
		p.RetryAfter = forward.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return p
}

// answer makes a successful answer the attempt's result.
func answer(t *Task, resp *http.Response) (any, error) {
	if c := resp.Header.Get("Content-Encoding"); c != "" && !strings.EqualFold(c, "identity") {
		return nil, job.Problemf("invalid-result", "the upstream's answer is encoded as %.64q, which it was asked not to do", c)
	}
	contentType := resp.Header.Get("Content-Type")
	mediaType, _, _ := mime.ParseMediaType(contentType)
	switch mediaType {
	case "text/event-stream":
		return t.relayStream(resp.Body)
	case "application/x-ndjson", "application/jsonl":
		return t.relayLines(resp.Body, contentType)
	}
	w := t.NewResult(contentType)
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	if n == 0 && contentType == "" {
		return nil, nil
	}
	return w, nil
}

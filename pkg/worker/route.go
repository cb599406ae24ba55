package worker

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// Route asks an upstream what the requests ask that the jobs are of: with their method, path,
// query, headers and body. Millstream-Job and Millstream-Attempt go along.
//
// Any answer is the result: its status, its headers and, byte for byte, its body, of which
// text/event-stream and NDJSON are relayed as events too, as they come. Only 429 and 503 are
// asked again, as long as attempts are left. When a request is sent again is as for HTTP.
type Route struct {
	Upstream   *url.URL // scheme and host
	Idempotent bool     // the upstream may be asked any number of times
}

// Func returns the Func that asks the upstream.
func (r Route) Func() Func { return r.run }

func (r Route) run(ctx context.Context, t *Task) (any, error) {
	if t.a.Call == nil {
		return nil, job.Problemf("invalid-input", "a job of a route is a request to its path")
	}
	var wire forward.Wire
	req, err := r.request(httptrace.WithClientTrace(ctx, wire.Trace()), t)
	if err != nil {
		t.log.Error("request cannot be made", zap.Error(err))
		return nil, job.Problemf("upstream-failed", "the request could not be made")
	}
	resp, err := forward.Send(req, r.Idempotent)
	if err != nil {
		return nil, t.upstreamFailed(err, wire.Untouched(), r.Idempotent)
	}
	defer resp.Body.Close()
	if err := forward.Final(resp); err != nil {
		return nil, t.upstreamFailed(err, false, r.Idempotent)
	}
	if p := t.later(resp); p != nil {
		return nil, p
	}
	w, err := t.store(resp)
	if err != nil {
		return nil, t.upstreamFailed(err, false, r.Idempotent)
	}
	s := settled{value: w}
	if !r.Idempotent {
		s.lost = job.Problemf("outcome-unknown", "the upstream has answered, but the answer could not be stored")
	}
	return s, nil
}

func (r Route) request(ctx context.Context, t *Task) (*http.Request, error) {
	call := t.a.Call
	target, err := url.ParseRequestURI(string(call.Target))
	if err != nil {
		return nil, err
	}
	target.Scheme, target.Host = r.Upstream.Scheme, r.Upstream.Host
	body, err := t.OpenInput(ctx)
	if err != nil {
		return nil, err
	}
	req := (&http.Request{Method: call.Method, URL: target, Header: http.Header{}, Body: body, ContentLength: t.InputSize()}).WithContext(ctx)
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) { return t.OpenInput(ctx) }
	for name, values := range call.Header {
		req.Header[name] = values
	}
	if _, named := call.Header["User-Agent"]; !named {
		req.Header["User-Agent"] = nil // net/http would name itself
	}
	req.Header.Set("Millstream-Job", string(t.ID()))
	req.Header.Set("Millstream-Attempt", strconv.Itoa(t.Attempt()))
	return req, nil
}

// later is the error of an answer that nothing was done and the request may come again; nil:
// it is another, or nobody would ask again.
func (t *Task) later(resp *http.Response) error {
	after := forward.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
	if !forward.Later(resp.StatusCode) || t.lastChance(after) {
		return nil
	}
	p := job.Problemf("upstream-status", "the upstream answered %s", resp.Status)
	p.Retryable, p.RetryAfter = true, after
	return p
}

// lastChance reports whether no attempt would follow that waits so long.
func (t *Task) lastChance(wait time.Duration) bool {
	j := &t.a.Job
	if j.Attempt >= j.MaxAttempts || j.Request == nil {
		return true
	}
	deadline := j.Request.Deadline
	return !deadline.IsZero() && !time.Now().Add(wait).Before(deadline)
}

// store makes the answer the attempt's result, and relays the events in it as they come.
func (t *Task) store(resp *http.Response) (*ResultWriter, error) {
	contentType := resp.Header.Get("Content-Type")
	w := t.NewResult(contentType)
	w.answer = &job.Answer{Status: resp.StatusCode, Header: job.Header(forward.Stored(resp))}
	in := &copied{from: resp.Body, to: w}
	if w.answer.Status/100 == 2 && resp.Header.Get("Content-Encoding") == "" {
		t.relayCopied(in, contentType)
	}
	_, err := io.Copy(io.Discard, in) // the rest; what it was relayed as does not matter
	return w, err
}

// relayCopied relays what it can of a body: that it is no stream of events to its end, as its
// type has it, does not make it another answer.
func (t *Task) relayCopied(in *copied, contentType string) {
	var err error
	switch mediaType, _, _ := mime.ParseMediaType(contentType); mediaType {
	case "text/event-stream":
		_, err = t.relayStream(in)
	case "application/x-ndjson", "application/jsonl":
		_, err = t.relayLines(in, contentType)
	}
	if err != nil && in.err == nil {
		t.say("what follows of the answer is not relayed: %v", err)
	}
}

// copied reads from from, and writes what it read to to. What ends it ends it for good.
type copied struct {
	from io.Reader
	to   io.Writer
	err  error // but for io.EOF
	over bool
}

// Read reads on.
func (c *copied) Read(p []byte) (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.over:
		return 0, io.EOF
	}
	n, err := c.from.Read(p)
	if _, werr := c.to.Write(p[:n]); werr != nil {
		c.err = werr
		return 0, werr
	}
	c.over = errors.Is(err, io.EOF)
	if err != nil && !c.over {
		c.err = err
	}
	return n, err
}

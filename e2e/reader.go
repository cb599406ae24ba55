package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// reader is a client of its own that follows one job through everything, knowing
// only the last id it was given. It runs beside the test and never fails it: it
// writes down what it gets, and judge looks at that.
type reader struct {
	record
	many *many  // in place of a job
	from *event // behind which it begins; nil: at the first
	base string
	way  transport
	hang func() bool   // asked after each event: whether to hang up now
	seen *atomic.Int64 // events, of all readers
}

// transport is a way of reading a job's events: one round of it goes as far as
// it can from the last id on.
type transport func(*reader, context.Context) error

// The ways of reading that this release has.
var transports = map[string]transport{
	"sse":    (*reader).readStream,
	"ndjson": (*reader).readLines,
	"page":   (*reader).readPage,
	"socket": (*reader).readSocket,

	"graphql-sse":    (*reader).readGraphStream,
	"graphql-socket": (*reader).readGraphSocket,
}

// follow reads until the server says that the job is over.
func (r *reader) follow(ctx context.Context) {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for !r.over && len(r.surprises) == 0 {
		err := r.way(r, ctx)
		var odd surprise
		if errors.As(err, &odd) {
			r.surprises = append(r.surprises, fmt.Sprintf("%s: behind %q: %s", r.job, r.last(), odd))
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			r.surprises = append(r.surprises, fmt.Sprintf("%s: gave up behind %q: %v", r.job, r.last(), err))
		}
	}
}

// surprise is an answer that no reader should ever get, in words.
type surprise string

func (s surprise) Error() string { return string(s) }

var errHungUp = errors.New("the reader hung up")

// where returns what is read, with a ? or & behind.
func (r *reader) where() string {
	if r.many != nil {
		return "/v1/events?" + r.many.query + "&"
	}
	return "/v1/jobs/" + r.job + "/events?"
}

// last returns the resume point.
func (r *reader) last() string {
	if r.many != nil {
		return r.many.at
	}
	switch {
	case len(r.events) > 0:
		return r.events[len(r.events)-1].ID
	case r.from != nil:
		return r.from.ID
	}
	return ""
}

// take writes one event down.
func (r *reader) take(e event) error {
	if e.Type == "stream.end" {
		return io.EOF
	}
	if r.many != nil {
		return r.takeOne(e)
	}
	r.events = append(r.events, e) // a stream.reset too: it breaks the order
	r.seen.Add(1)
	want := uint64(len(r.events))
	if r.from != nil {
		want += r.from.Seq
	}
	if e.Seq != want {
		return surprise("out of order: " + e.raw) // judge sees it too; but who goes on may never see the end
	}
	if r.hang() {
		return errHungUp
	}
	return nil
}

func (r *reader) get(ctx context.Context, accept, query string) (*http.Response, error) {
	headers := []string{"Accept", accept}
	if last := r.last(); last != "" {
		headers = append(headers, "Last-Event-ID", last)
	}
	resp, err := send(ctx, r.base, "GET", r.where()+query, nil, headers...)
	if err != nil {
		return nil, err
	}
	r.over = resp.StatusCode == http.StatusNoContent
	return resp, nil
}

func (r *reader) readStream(ctx context.Context) error {
	resp, err := r.get(ctx, "text/event-stream", "")
	if err != nil || r.over {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return surprise(resp.Status)
	}
	for in := newFrames(resp.Body); ; {
		e, err := in.read()
		if err == nil {
			err = r.take(e)
		}
		if err != nil {
			return err
		}
	}
}

// readLines reads NDJSON. It asks for no answer of overload in band, so 503 is
// one that it may get.
func (r *reader) readLines(ctx context.Context) error {
	resp, err := r.get(ctx, "application/x-ndjson", "")
	if err != nil || r.over {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return unless(resp, http.StatusServiceUnavailable)
	}
	for in := newFrames(resp.Body); ; {
		line, err := in.line()
		if err != nil {
			return err
		}
		if line == "" {
			continue // a heartbeat
		}
		if err := r.takeJSON([]byte(line)); err != nil {
			return err
		}
	}
}

func (r *reader) takeJSON(text []byte) error {
	e := event{raw: string(text)}
	if err := json.Unmarshal(text, &e); err != nil {
		return surprise(err.Error())
	}
	return r.take(e)
}

// readPage polls, and waits for the next page as long as the server lets it.
func (r *reader) readPage(ctx context.Context) error {
	resp, err := r.get(ctx, "application/json", "limit=7&wait=5")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return unless(resp, http.StatusServiceUnavailable)
	}
	var page struct {
		Events []json.RawMessage
		Cursor string
		Done   bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return err
	}
	for _, text := range page.Events {
		if err := r.takeJSON(text); err != nil {
			return err
		}
	}
	r.over = page.Done
	return nil
}

// unless returns a surprise unless the answer's status is the one that may be.
func unless(resp *http.Response, status int) error {
	if resp.StatusCode == status {
		return errors.New(resp.Status)
	}
	return surprise(resp.Status)
}

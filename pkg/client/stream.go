package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/millstream/millstream/pkg/sse"
)

// stream is one connection to a job's events.
type stream struct {
	*sse.Reader
	close func()
	ctx   context.Context
}

// open connects behind the last event.
func (w *watch) open(ctx context.Context) (*stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog := time.AfterFunc(w.silence, func() { cancel(errSilence) })
	if w.submit != nil {
		dog.Stop() // an input takes as long to send as it takes
	}
	resp, err := w.ask(ctx)
	if err != nil {
		err = cause(ctx, err)
		dog.Stop()
		cancel(nil)
		return nil, err
	}
	s := &stream{
		Reader: sse.NewReader(&watched{Reader: resp.Body, dog: dog, silence: w.silence}),
		ctx:    ctx,
		close: func() {
			dog.Stop()
			cancel(nil)
			_ = resp.Body.Close()
		},
	}
	if err := refused(resp); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// refused says why resp, a success, has no events in it, if it has none.
func refused(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return errOver
	case mediaType(resp) != sse.ContentType:
		return fmt.Errorf("%s answered %q: %w", resp.Request.URL.Host, resp.Header.Get("Content-Type"), errForeign)
	}
	return nil
}

// askEvents requests the stream as EventSource does: where the caller began stays in
// the address, where to resume is in the header, which wins.
func (w *watch) askEvents(ctx context.Context) (*http.Response, error) {
	req, err := w.ofJob(ctx, http.MethodGet, nil, w.id, "events")
	if err != nil {
		return nil, err
	}
	if w.from != "" {
		req.URL.RawQuery = url.Values{"after": {w.from}}.Encode()
	}
	if w.last != "" {
		req.Header.Set("Last-Event-ID", w.last)
	}
	wantStream(req)
	return w.send(req)
}

func wantStream(req *http.Request) {
	req.Header.Set("Accept", sse.ContentType)
	req.Header.Set("Accept-Encoding", "identity") // a proxy that compresses holds events back
}

// failure says why reading ended: silence is worse than a cut, as the next
// connection may well be as dead.
func (s *stream) failure(err error) error {
	switch cut := cause(s.ctx, err); {
	case errors.Is(cut, errSilence):
		return cut
	case errors.Is(err, sse.ErrTooLarge):
		return fmt.Errorf("%w: %w", errGarbage, err)
	default:
		return fmt.Errorf("%w: %w", errCut, err)
	}
}

// cause returns why ctx ended, if it did, and else err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watched is a body whose silence sets off the dog. The time between two reads
// does not count: then it is the caller who is slow.
type watched struct {
	io.Reader
	dog     *time.Timer
	silence time.Duration
}

func (b *watched) Read(p []byte) (int, error) {
	b.dog.Reset(b.silence)
	defer b.dog.Stop()
	return b.Reader.Read(p)
}

package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"iter"
	"net/http"

	"github.com/millstream/millstream/pkg/job"
)

// SubmitAndWatch submits a job as Submit does and watches it to its end as Events does, on
// the connection of the submit: the sender is there for as long as the caller listens, which
// is what CancelOnDisconnect looks at. The first event has the job's id.
//
// A connection that is lost is made again by submitting with the same key; one is made up if
// there is none. So the input must be of those that Submit sends again, nil, or the watch ends
// with the connection. It may also not outlive the key. Wait means nothing here.
//
// An error comes last. Before the first event it leaves open whether there is a job, unless
// it is a *job.Problem.
func (c *Client) SubmitAndWatch(ctx context.Context, kind string, input io.Reader, o *SubmitOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{Client: c, counting: true, pace: newPace(c.patience)}
		if err := w.runSubmit(ctx, kind, input, o, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

func (w *watch) runSubmit(ctx context.Context, kind string, input io.Reader, o *SubmitOptions, yield func(Event, error) bool) (err error) {
	if o == nil {
		o = &SubmitOptions{}
	}
	key := o.Key
	if key == "" {
		key = rand.Text()
	}
	if w.submit, err = w.raw(ctx, kind, input, o); err != nil {
		return err
	}
	withKey(w.submit, key)
	wantStream(w.submit)
	w.ask = w.askSubmit
	return w.run(ctx, yield)
}

// askSubmit submits the job, or finds it by its key. What comes from the first event on again
// is dropped like all that comes twice.
func (w *watch) askSubmit(ctx context.Context) (*http.Response, error) {
	req := w.submit.Clone(ctx)
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	resp, err := w.send(req)
	if err == nil && resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		return nil, errForeign // the end of a stream that was never there
	}
	return resp, err
}

// repeats reports whether a submit that ended with err is sent again: if its answer was lost
// or cut, and not if it was refused before there was a job.
func (w *watch) repeats(err error) bool {
	var refused *job.Problem
	switch {
	case w.submit.Body != nil && w.submit.GetBody == nil:
		return false
	case !errors.As(err, &refused):
		return w.Passing(err) || answerLost(err)
	case refused.Name() == "in-progress":
		return true
	}
	return w.last != "" && w.Passing(err)
}

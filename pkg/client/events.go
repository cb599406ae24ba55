package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// Event is one event of a watched job.
type Event struct {
	job.Event
	ID   string          // the resume point behind it
	JSON json.RawMessage // the object as it was received; the caller may keep it
}

// Latest is the place to watch from to skip what has happened: a stream.reset
// with the job as it stands comes first, then what is new.
const Latest = "latest"

// Events watches a job to its end: every event behind the one whose id is after
// (empty: from the first), each exactly once and in order. The last is the
// terminal one; there is none if it is not behind after.
//
// A connection that is cut, silent or told to come back is resumed from the last
// event, without end as long as the server is there. What the server cannot
// resume it says with a stream.reset, which is delivered: the job's kept events
// follow from the first. Events that arrived twice are dropped.
//
// An error comes last: a *job.Problem if the server refused, as for a job that
// is unknown, or what kept it away for longer than Options.Patience. The watch
// can be taken up again behind the last event that was delivered.
func (c *Client) Events(ctx context.Context, id job.ID, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{Client: c, id: id, from: after, counting: after == "", pace: newPace(c.patience)}
		w.ask = w.askEvents
		if err := w.run(ctx, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// watch is one watching of one job, over as many connections as it takes.
type watch struct {
	*Client
	ask  func(context.Context) (*http.Response, error)
	id   job.ID // "": the first event has it
	from string // where the caller wants to begin
	last string // id of the last event that was delivered
	seq  uint64 // its number
	pace pace

	counting bool // seq is known, so the next event's number is
	away     bool // the server is, as far as the caller was told

	many   *manyWatch    // in place of one job; nil: it is one
	submit *http.Request // each connection submits the job once more; nil: it looks at one that is there
}

// The ways in which a connection ends. Whatever else happened is a failure.
var (
	errOver    = errors.New("the job is over, or nobody listens any more")
	errCut     = errors.New("the stream was cut")
	errSilence = errors.New("the stream fell silent")
	errGarbage = errors.New("the stream is damaged")
	errForeign = errors.New("not an event stream")
	errHole    = errors.New("events are missing")
	errOther   = errors.New("the events are another job's")
)

// run opens one stream after the other until the job is over.
func (w *watch) run(ctx context.Context, yield func(Event, error) bool) error {
	for {
		err := w.listen(ctx, yield)
		switch {
		case errors.Is(err, errOver):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errForeign), errors.Is(err, errHole), errors.Is(err, errOther), !w.goesOn(err):
			return err
		}
		wait, ok := w.pace.next(err)
		if !ok {
			return err
		}
		if !w.away && !w.pace.lost.IsZero() {
			w.away = true
			w.lost(w.id, err)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listen delivers the events of one connection. It never returns nil.
func (w *watch) listen(ctx context.Context, yield func(Event, error) bool) error {
	s, err := w.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if w.away {
		w.away = false
		w.found(w.id)
	}
	for {
		e, err := s.Next()
		if d, ok := s.Retry(); ok {
			w.pace.retry(d)
		}
		if err != nil {
			w.passed(s.LastID())
			return s.failure(err)
		}
		if err := w.take(e, yield); err != nil {
			return err
		}
	}
}

// goesOn reports whether there is hope after a connection that ended with err.
func (w *watch) goesOn(err error) bool {
	if w.submit == nil {
		return w.Passing(err)
	}
	return w.repeats(err)
}

// take delivers one event, unless it is not for the caller.
func (w *watch) take(frame sse.Event, yield func(Event, error) bool) error {
	if job.Type(frame.Type) == job.StreamEnd {
		return errCut
	}
	if w.many != nil {
		return w.takeMany(frame, yield)
	}
	e, err := parse(frame)
	if err != nil {
		return err
	}
	w.pace.good()
	if w.id == "" {
		w.id = e.Job
	}
	if e.Job != w.id && e.Type != job.StreamReset {
		return fmt.Errorf("%w: of %s, not of %s", errOther, e.Job, w.id)
	}
	fresh, err := w.follows(&e)
	if err != nil || !fresh {
		return err
	}
	w.last = e.ID
	if !yield(e, nil) || e.Type.Terminal() {
		return errOver
	}
	return nil
}

func parse(frame sse.Event) (Event, error) {
	e, err := parseAny(frame)
	if err == nil && e.ID == "" {
		err = fmt.Errorf("%w: %q without its id", errGarbage, frame.Type)
	}
	return e, err
}

// parseAny reads an event, which may have no id.
func parseAny(frame sse.Event) (Event, error) {
	e := Event{ID: frame.ID, JSON: bytes.Clone(frame.Data)}
	if err := e.UnmarshalJSON(e.JSON); err != nil {
		return Event{}, fmt.Errorf("%w: %w", errGarbage, err)
	}
	if string(e.Type) != frame.Type {
		return Event{}, fmt.Errorf("%w: %q without its name", errGarbage, frame.Type)
	}
	return e, nil
}

// follows reports whether e is new. The numbers of a job's events have no holes:
// the server promises it, the client checks it.
func (w *watch) follows(e *Event) (bool, error) {
	switch {
	case e.Type == job.StreamReset:
		w.counting = false
		return true, nil
	case w.counting && e.Seq <= w.seq:
		return false, nil
	case w.counting && e.Seq != w.seq+1:
		return false, fmt.Errorf("%w: %s has number %d, not %d", errHole, e.Type, e.Seq, w.seq+1)
	}
	w.seq, w.counting = e.Seq, true
	return true, nil
}

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// Selection says which jobs' events are watched; what is left out holds for any.
type Selection struct {
	Jobs  []job.ID // any of these, 500 at most
	Kinds []string // any of these
	Tags  []string // all of these
	Batch string
}

func (s *Selection) query() url.Values {
	q := url.Values{"kind": s.Kinds, "tag": s.Tags}
	if s.Batch != "" {
		q.Set("batch", s.Batch)
	}
	if len(s.Jobs) > 0 {
		var ids []string
		for _, id := range s.Jobs {
			ids = append(ids, string(id))
		}
		q.Set("job", strings.Join(ids, ","))
	}
	return q
}

// EventsOf watches many jobs on one connection: every event of theirs behind the id after,
// each exactly once, in one order, those of each job in its own. The id may be that of any
// event.
//
// With after empty, a stream.reset for each job comes first, with the job as it stands, and
// then what is new. They come too if the server cannot resume, and again if the
// connection was lost among them; only the last of them has an ID. A job that is gone is
// told by a stream.erased, which may have none either.
//
// A watch of Jobs ends when all of them are over, or gone; any other never does. Lost
// connections, and errors, are as with Events.
func (c *Client) EventsOf(ctx context.Context, s Selection, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{Client: c, from: after, pace: newPace(c.patience), many: &manyWatch{query: s.query()}}
		if len(s.Jobs) > 0 {
			w.many.unread = map[job.ID]bool{}
			for _, id := range s.Jobs {
				w.many.unread[id] = true
			}
		}
		w.ask = w.askMany
		if err := w.run(ctx, yield); err != nil {
			yield(Event{}, err)
		}
	}
}

// manyWatch is what a watch of many jobs has beside any other.
type manyWatch struct {
	query  url.Values
	unread map[job.ID]bool // whose end is yet to come; nil: there is none to wait for
}

// askMany requests the stream of many jobs.
func (w *watch) askMany(ctx context.Context) (*http.Response, error) {
	req, err := w.request(ctx, http.MethodGet, nil, "v1", "events")
	if err != nil {
		return nil, err
	}
	if w.from != "" {
		w.many.query.Set("after", w.from)
	}
	req.URL.RawQuery = w.many.query.Encode()
	if w.last != "" {
		req.Header.Set("Last-Event-ID", w.last)
	}
	wantStream(req)
	return w.send(req)
}

// takeMany delivers one event of many jobs.
func (w *watch) takeMany(frame sse.Event, yield func(Event, error) bool) error {
	e, err := parseAny(frame)
	if err != nil {
		return err
	}
	if e.Cursor() == (job.Cursor{}) { // the frame's is that of one before
		e.ID = ""
	}
	if e.ID == "" && e.Type != job.StreamReset && e.Type != job.StreamErased {
		return fmt.Errorf("%w: %q without its id", errGarbage, e.Type)
	}
	w.pace.good()
	if e.ID != "" {
		w.last = e.ID
	}
	if !yield(e, nil) || w.many.ends(&e) {
		return errOver
	}
	return nil
}

// passed notes how far the stream had come, maybe past events of other jobs.
func (w *watch) passed(id string) {
	if w.many != nil && id != "" {
		w.last = id
	}
}

// ends reports whether nothing more is to come.
func (m *manyWatch) ends(e *Event) bool {
	if m.unread == nil {
		return false
	}
	if e.Type.Terminal() || e.Type == job.StreamErased || e.Type == job.StreamReset && resetOver(e) {
		delete(m.unread, e.Job)
	}
	return len(m.unread) == 0
}

// resetOver reports whether the job of a snapshot is over.
func resetOver(e *Event) bool {
	var d struct{ Job *struct{ Status job.Status } }
	return json.Unmarshal(e.Data, &d) == nil && d.Job != nil && d.Job.Status.Over()
}

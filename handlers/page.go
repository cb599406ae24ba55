package handlers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

const (
	defaultLimit = 100     // events of a page: a screenful
	maxLimit     = 1000    //
	maxPage      = 1 << 20 // bytes after which a page takes no more events
)

// page is a part of a job's events, for clients that poll.
type page struct {
	types  filter
	limit  int
	events [][]byte // event objects
	size   int      // their bytes
	count  int      // those of them that are in the log
	cursor string   // behind the last event that was read
	done   bool     // there will be no more
}

// page answers with the events there are after the client's cursor, or waits for
// the first one.
func (a *API) page(c *gin.Context, j *job.Job, r reading, query url.Values) error {
	return a.paged(c, r, query, func(ctx context.Context, p *page, wait *patience) error {
		return a.unlessLost(ctx, j.ID, a.fill(ctx, p, j, r.place, wait))
	})
}

// paged answers with a page that fill fills.
func (a *API) paged(c *gin.Context, r reading, query url.Values, fill func(context.Context, *page, *patience) error) error {
	limit, err := limitOf(query)
	if err != nil {
		return err
	}
	prefer, err := pageWait(c.Request, query)
	if err != nil {
		return err
	}
	if prefer.wait > 0 {
		if leave, ok := a.enter(); ok {
			defer leave()
		} else {
			prefer.wait, prefer.waits = 0, false // a page with what there is, never an error
		}
	}
	p := &page{types: r.types, limit: limit, cursor: r.place.cursor.String()} // or where a reset says
	wait := &patience{time.NewTimer(prefer.wait)}
	defer wait.timer.Stop()
	if err := fill(c.Request.Context(), p, wait); err != nil {
		return err
	}
	prefer.applied(c, true)
	private(c)
	return send(c, http.StatusOK, jsonType, p.json())
}

func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, job.Problemf("invalid-request", "limit: must be a number from 1 to %d", maxLimit)
	}
	return n, nil
}

// pageWait returns how long the client wants to wait, from wait= or else from
// Prefer. A HEAD waits for nothing.
func pageWait(r *http.Request, q url.Values) (p preferences, err error) {
	if text := q.Get("wait"); text == "" {
		p = preferencesOf(r.Header)
	} else if wait, ok := seconds(text); ok {
		p.wait = wait
	} else {
		return p, job.Problemf("invalid-request", "wait: must be a number of seconds")
	}
	if r.Method == http.MethodHead {
		p.wait = 0
	}
	return p, nil
}

// fill reads the page's events. Once there is one, it takes what is there and
// waits no longer.
func (a *API) fill(ctx context.Context, p *page, j *job.Job, at place, wait *patience) error {
	from, err := a.openAt(ctx, j, at)
	if err != nil {
		return err
	}
	defer from.Close()
	if from.reset == reasonLatest {
		err = a.resetPage(p, j, reasonLatest, nil, j.Cursor)
	}
	for err == nil && !p.full() {
		var b tape.Block
		b, err = from.Next(ctx, wait.of(p))
		if err != nil || len(b.Bytes) == 0 {
			return p.end(err)
		}
		if from.reset == reasonCursor {
			id := firstID(b)
			from.reset, err = "", a.resetPage(p, j, reasonCursor, &id, beginning(j))
		}
		p.add(b)
	}
	return err
}

// pageTime bounds how long a page of many jobs looks for events that are wanted, where there
// are others: its cursor has moved by then, or the next page goes on where it was.
const pageTime = 10 * time.Second

// read fills the page with events of many jobs. Its cursor moves past those of others. It ends
// where the reader does, so that the next page takes up what was found for this one.
func (p *page) read(ctx context.Context, from tape.Capped, wait *patience) error {
	until := time.Now().Add(pageTime)
	for began := from.Cursor(); !p.full(); {
		from.Cap(p.limit - p.count)
		b, err := from.Next(ctx, wait.of(p))
		working := err == nil && len(b.Bytes) == 0 && len(p.events) == 0 && b.Last == began
		if working && time.Now().Before(until) {
			continue
		}
		if err != nil || len(b.Bytes) == 0 {
			p.cursor = from.Cursor().String()
			return p.end(err)
		}
		if p.add(b); !p.full() {
			p.cursor = b.Last.String()
		}
		if len(p.events) == 0 && time.Now().After(until) {
			return nil
		}
	}
	return nil
}

// resetPage puts the event on the page that tells the client to start over.
func (a *API) resetPage(p *page, j *job.Job, reason string, first *string, at job.Cursor) error {
	e, err := a.reset(j, reason, first, at)
	p.events = append(p.events, e.AppendJSON(nil))
	p.cursor = at.String()
	return err
}

// fired is an idle channel for those who take what is there and do not wait.
var fired = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// patience is how long a page waits for its first event.
type patience struct{ timer *time.Timer }

func (w *patience) of(p *page) <-chan time.Time {
	if len(p.events) > 0 {
		return fired
	}
	return w.timer.C
}

func (p *page) full() bool { return p.count >= p.limit || p.size >= maxPage }

// add takes events of the block until the page is full.
func (p *page) add(b tape.Block) {
	for f := range b.Events() {
		if p.full() {
			return
		}
		p.cursor = f.ID
		if p.types.passes(f.Type) {
			p.events = append(p.events, f.JSON)
			p.size += len(f.JSON)
			p.count++
		}
	}
	p.done = b.End
}

// end returns the error of a page that reading has ended with err. Who waited
// gets a page, and so does who has part of one.
func (p *page) end(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		p.done = true
		return nil
	case errors.Is(err, job.ErrDraining), len(p.events) > 0:
		return nil
	}
	return err
}

func (p *page) json() []byte {
	b := make([]byte, 0, p.size+256)
	b = append(b, `{"events":[`...)
	for i, e := range p.events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	b = append(b, `],"cursor":"`...)
	b = append(b, p.cursor...)
	b = append(b, `","done":`...)
	b = strconv.AppendBool(b, p.done)
	return append(b, '}')
}

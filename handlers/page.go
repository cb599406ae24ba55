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
	if err := a.fill(c.Request.Context(), p, j, r.place, prefer.wait); err != nil {
		return a.unlessLost(c.Request.Context(), j.ID, err)
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
func (a *API) fill(ctx context.Context, p *page, j *job.Job, at place, wait time.Duration) error {
	from, err := a.openAt(ctx, j, at)
	if err != nil {
		return err
	}
	defer from.Close()
	if from.reset == reasonLatest {
		err = a.resetPage(p, j, reasonLatest, nil, j.Cursor)
	}
	idle := time.NewTimer(wait)
	defer idle.Stop()
	for err == nil && !p.full() {
		var b tape.Block
		b, err = from.Next(ctx, p.patience(idle))
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

func (p *page) patience(idle *time.Timer) <-chan time.Time {
	if len(p.events) > 0 {
		return fired
	}
	return idle.C
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

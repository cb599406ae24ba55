package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Events that do not end a job are sent, where they were asked for by name, as the job goes
// on: one delivery of a job at a time, of what has come meanwhile. They are not put down, as
// they are in the job's log anyway; how far they were sent is. What cannot be sent is passed
// over, and the end of the job waits for none of it: it may come first.

const (
	// followPause is how often a job's events are sent at the most.
	followPause = 500 * time.Millisecond
	// followTries is how often it is tried to send one of them.
	followTries = 3
	// followRead is how many bytes of events are read at once, and joined at the most.
	followRead = 256 << 10
)

// follower is a live job of which more than its end is sent.
type follower struct {
	hook   job.Webhook
	found  bool       // after is as it was stored
	after  job.Cursor // so far the events were sent, or passed over
	next   *parcel    // that is to be sent; nil: it has to be looked for
	tries  int        // at next
	news   bool       // there may be events behind after
	over   bool       // the job is
	done   bool       // no more is sent
	placed bool       // it is in line, or its turn
}

// parcel is what is sent at once.
type parcel struct {
	event job.Event  // the last one that is in it
	after job.Cursor // the last one that it stands for
}

// Fold takes one commit of the log.
func (s *Sender) Fold(c *job.Commit) {
	w := c.Job.Webhook
	if w == nil || !c.Job.Erased && !w.WantsMore() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.follow[c.Job.ID]
	switch over := c.Job.Status.Over(); {
	case c.Job.Erased:
		s.cut(c.Job.ID)
		delete(s.follow, c.Job.ID)
		return
	case f == nil && (over || c.Job.Status == ""):
		return // it was over when we came
	case f == nil:
		f = &follower{hook: *w, found: len(c.Events) > 0 && c.Before.Start()}
		s.follow[c.Job.ID] = f
	case f.done:
		if over {
			delete(s.follow, c.Job.ID)
		}
		return
	}
	f.over = c.Job.Status.Over()
	f.news = f.news || f.over || len(c.Events) == 0 || slices.ContainsFunc(c.Events, func(e job.Event) bool { return w.Wants(e.Type) })
	if f.news {
		s.queueFollower(c.Job.ID, f, time.Now())
	}
}

// queueFollower puts a follower in line, unless it is there. s.mu is held.
func (s *Sender) queueFollower(id job.ID, f *follower, at time.Time) {
	bits, ok := id.Bytes()
	if f.placed || !ok || len(s.keys) == 0 {
		return
	}
	name := hostOf(f.hook.URL)
	if s.full(name) { // the next event tries again
		if f.over {
			delete(s.follow, id)
		}
		return
	}
	f.placed = true
	s.put(name, item{job: bits, due: at.UnixMilli(), since: at.UnixMilli()})
}

// followOnce sends what is next of a job, and returns what that says of the host, and when
// there may be more; zero: not before there is news.
func (s *Sender) followOnce(ctx context.Context, c *claimed) (outcome, time.Time) {
	id := c.id()
	s.mu.Lock()
	f := s.follow[id]
	if f == nil || f.done {
		s.mu.Unlock()
		return unasked, time.Time{}
	}
	f.news = false
	s.mu.Unlock()
	if err := s.load(ctx, id, f); err != nil {
		return unasked, s.unread(id, f, err)
	}
	if f.next == nil {
		return unasked, s.caughtUp(id, f)
	}
	d := job.Delivery{ID: f.next.event.Cursor().String(), Job: id, URL: f.hook.URL, Body: f.next.event.WebhookBody(nil)}
	a := s.send(ctx, c, &d)
	if ctx.Err() != nil {
		return unasked, time.Now()
	}
	return a.outcome(), s.followed(ctx, id, f, &a)
}

// load looks for what is to be sent next. A progress that is tried again is as new as can be.
func (s *Sender) load(ctx context.Context, id job.ID, f *follower) (err error) {
	if !f.found {
		if f.after, err = s.store.Followed(ctx, id); err != nil {
			return err
		}
		f.found = true
	}
	if f.next != nil && f.next.event.Type != job.Progress {
		return nil
	}
	for f.next = nil; f.next == nil; {
		events, err := s.store.History(ctx, id, f.after, followRead)
		if err != nil || len(events) == 0 {
			return err
		}
		if f.next = pack(events, &f.hook); f.next == nil {
			f.after = events[len(events)-1].Cursor()
		}
	}
	return nil
}

// unread returns when it is tried again to read what could not be read; zero: never.
func (s *Sender) unread(id job.ID, f *follower, err error) time.Time {
	if errors.Is(err, job.ErrNotFound) || errors.Is(err, job.ErrCursor) || errors.Is(err, job.ErrDamaged) {
		return s.leave(id, f)
	}
	s.pains.Warn("events for a webhook not read yet", zap.String("job", string(id)), zap.Error(err))
	return time.Now().Add(storeAgain)
}

// leave sends no more of a job's events than its end.
func (s *Sender) leave(id job.ID, f *follower) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.done = true
	if f.over && s.follow[id] == f {
		delete(s.follow, id)
	}
	return time.Time{}
}

// caughtUp takes a follower that has sent all out of the line, if nothing has come since.
func (s *Sender) caughtUp(id job.ID, f *follower) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.news:
		return time.Now()
	case f.over && s.follow[id] == f:
		delete(s.follow, id)
	}
	f.placed = false
	return time.Time{}
}

// followed takes note of a try, and returns when the next one is. Once the job is over there
// is one try at each parcel, and none behind one that fails.
func (s *Sender) followed(ctx context.Context, id job.ID, f *follower, a *answer) time.Time {
	now := time.Now()
	f.tries++
	s.mu.Lock()
	over := f.over
	s.mu.Unlock()
	switch {
	case !a.received() && over, a.status == http.StatusGone:
		return s.leave(id, f)
	case !a.received() && f.tries < followTries:
		wait, _ := waitAfter(f.tries)
		return now.Add(max(wait, a.wait))
	}
	f.after, f.next, f.tries = f.next.after, nil, 0
	if err := s.store.SetFollowed(ctx, id, f.after); err != nil && ctx.Err() == nil {
		s.pains.Warn("events may be sent again by a webhook", zap.String("job", string(id)), zap.Error(err))
	}
	if over {
		return now
	}
	return now.Add(followPause)
}

// pack returns what is to be sent first of events; nil: none of them is. Of progress that
// follows on progress only the last is sent, and output that follows on output is joined.
func pack(events []job.Event, w *job.Webhook) (p *parcel) {
	for i := range events {
		e := &events[i]
		if e.Type.Terminal() || !w.Wants(e.Type) {
			continue
		}
		if p == nil {
			p = &parcel{*e, e.Cursor()}
		} else if !p.join(e) {
			break
		}
	}
	return p
}

// join takes e into what is sent, and reports whether it could.
func (p *parcel) join(e *job.Event) bool {
	if e.Type != p.event.Type || e.Attempt != p.event.Attempt {
		return false
	}
	switch e.Type {
	case job.Progress:
		p.event, p.after = *e, e.Cursor()
		return true
	case job.Output:
		data, ok := joined(p.event.Data, e.Data)
		if ok {
			p.event, p.after = *e, e.Cursor()
			p.event.Data = data
		}
		return ok
	}
	return false
}

// output is the data of a job.output; through is the index of the last one that it stands for.
type output struct {
	Index    int     `json:"index"`
	Through  *int    `json:"through,omitempty"`
	Chunk    *string `json:"chunk"`
	Encoding string  `json:"encoding,omitempty"`
}

// joined returns the data of two outputs as that of one, if they are text.
func joined(a, b json.RawMessage) (json.RawMessage, bool) {
	var x, y output
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil || x.Chunk == nil || y.Chunk == nil || x.Encoding != "" || y.Encoding != "" {
		return nil, false
	}
	if len(a)+len(b) > followRead {
		return nil, false
	}
	chunk := *x.Chunk + *y.Chunk
	return job.MustData(output{Index: x.Index, Through: &y.Index, Chunk: &chunk}), true
}

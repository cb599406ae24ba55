package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// When a reader comes back. A browser obeys retry: and nothing else.
const (
	minRetry   = 2 * time.Second
	firstRetry = 5 * time.Second  // after a connection that was cut
	maxRetry   = 60 * time.Second // after one that was refused by a server that is full
)

// errTokenEnd ends a stream whose token has expired.
var errTokenEnd = job.Problemf("unauthenticated", "The token has expired.")

// enter takes a place among the streams; ok is false if there is none.
func (a *API) enter() (leave func(), ok bool) {
	if a.open.Add(1) > int64(a.Streams) {
		a.open.Add(-1)
		return nil, false
	}
	return func() { a.open.Add(-1) }, true
}

// busy returns the problem of a server whose streams are all taken.
func (a *API) busy() *job.Problem {
	p := job.Problemf("rate-limited", "Too many streams are open.")
	p.RetryAfter = a.retry()
	return p
}

// retry returns when a reader that is sent away comes back: later, and more
// spread out, the more of them there are.
func (a *API) retry() time.Duration {
	load := min(1, float64(a.open.Load())/float64(max(1, a.Streams)))
	return between(minRetry, firstRetry+time.Duration(load*float64(maxRetry-firstRetry)))
}

// refuse answers a request for events that cannot be served. A status other than
// 200 ends an EventSource for good, so what will pass is told on the stream.
func (a *API) refuse(c *gin.Context, j *job.Job, r reading, err error) error {
	if r.format != sseType && r.format != socketType || !passes(err) {
		return err
	}
	if c.Request.Method == http.MethodHead {
		streamHeader(c.Writer.Header(), r)
		return sendNothing(c, http.StatusOK)
	}
	return a.streamed(c, j, r, func(_ context.Context, s *session) error { return s.turnAway(r.place, err) })
}

// passes reports whether what fails now may be served later.
func passes(err error) bool {
	p, _ := problemOf(err)
	return p.Status >= http.StatusInternalServerError && !p.Is(job.ErrDamaged) || p.Status == http.StatusTooManyRequests
}

// refuseReading is refuse for a request whose job is not known; whoever asks for
// something else than events gets the error.
func (a *API) refuseReading(c *gin.Context, err error) error {
	if r, ok := c.Get(asked); ok {
		return a.refuse(c, &job.Job{ID: job.ID(c.Param("id"))}, r.(reading), err)
	}
	return err
}

// turnAway answers with a stream that ends before its first event. Who asked for
// the latest gets its snapshot, so that it can come back for what follows.
func (s *session) turnAway(from place, err error) error {
	s.placeless = (from.latest || from.bad) && !s.job.Exists()
	switch {
	case s.placeless:
	case from.latest:
		s.reset = reasonLatest
	case from.bad:
		s.reset = reasonCursor
	}
	return s.end(err)
}

// end tells the reader why the stream ends, and when to come back to the event it
// is at: to another than it named, if it has to start over. Why a store failed is
// logged and not told.
func (s *session) end(err error) error {
	if _, ours := problemOf(err); !ours {
		s.api.Log.Error("stream ended", zap.String("job", string(s.job.ID)), zap.Error(err))
	}
	b, failed := s.resetNow()
	if failed != nil {
		return failed
	}
	if !s.lines {
		b = sse.AppendRetry(b, s.api.retry())
	}
	s.ended = endReason(err)
	e := aside(s.job, job.StreamEnd, s.at, job.MustData(map[string]string{"reason": s.ended}))
	if s.placeless {
		b = s.appendAside(b, &e)
	} else {
		b = s.appendEvent(b, &e)
	}
	if _, err := s.Write(b); err != nil {
		return err
	}
	return s.Flush()
}

// resetNow returns what tells the reader to start over, if it has to and has not been
// told, before its first event is known.
func (s *session) resetNow() ([]byte, error) {
	switch s.reset {
	case "":
		return nil, nil
	case reasonLatest:
		return s.appendReset(nil, nil, s.job.Cursor)
	}
	return s.appendReset(nil, nil, beginning(s.job))
}

// endReason says in one word why a stream ends.
func endReason(err error) string {
	var p *job.Problem
	switch {
	case !errors.As(err, &p):
		return "outage"
	case p.Is(job.ErrDraining):
		return "drain"
	case p.Is(errTokenEnd):
		return "unauthorized"
	case p.Name() == "rate-limited", p.Is(job.ErrQueueFull):
		return "busy"
	}
	return "outage"
}

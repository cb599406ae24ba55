package handlers

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// pollAfter is the Retry-After of a job that is not over: who polls sees it end
// within a second, and a thousand who do are a thousand requests a second.
const pollAfter = "1"

// awaitEnd waits for the job to be over and returns it as it stands then, or
// after the wait.
func (a *API) awaitEnd(c *gin.Context, j job.Job, wait time.Duration) (now job.Job, ok bool) {
	return a.await(c, j, wait, atEnd)
}

func atEnd(b tape.Block) bool { return b.End }

// awaitChange waits for the next event of the job and returns it as it stands
// then, or after the wait.
func (a *API) awaitChange(c *gin.Context, j job.Job, wait time.Duration) (now job.Job, ok bool) {
	return a.await(c, j, wait, func(tape.Block) bool { return true })
}

// await is hold, but a HEAD waits for nothing.
func (a *API) await(c *gin.Context, j job.Job, wait time.Duration, enough func(tape.Block) bool) (now job.Job, ok bool) {
	if c.Request.Method == http.MethodHead {
		wait = 0
	}
	return a.hold(c, j, wait, enough)
}

// hold reads the job's events until one is enough. A wait takes a place among
// the streams; ok is false if there is none. Whatever goes wrong ends the wait, no
// more: it was a preference (RFC 7240), and the job as it was known is an answer
// too.
func (a *API) hold(c *gin.Context, j job.Job, wait time.Duration, enough func(tape.Block) bool) (now job.Job, ok bool) {
	if wait <= 0 || j.Status.Over() {
		return j, true
	}
	leave, ok := a.enter()
	if !ok {
		return j, false
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Request.Context(), wait)
	defer cancel()
	if r, err := a.Hub.Open(ctx, j.ID, j.Cursor); err == nil {
		readUntil(ctx, r, enough)
		r.Close()
	}
	if now, err := a.find(c.Request.Context(), j.ID); err == nil {
		return now, true
	}
	return j, true
}

func readUntil(ctx context.Context, r tape.Reader, enough func(tape.Block) bool) {
	for {
		b, err := r.Next(ctx, nil)
		if err != nil || enough(b) {
			return
		}
	}
}

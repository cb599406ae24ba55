package handlers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// senderGrace is how long a job goes on whose sender is gone, if it shall not outlive the
// sender: long enough to change from one network to another and send it again with its key.
const senderGrace = 10 * time.Second

// errNoSender is the error of an option that has nothing to look at.
var errNoSender = invalid("/cancel_on_disconnect", "needs a connection that stays: Accept: text/event-stream, or Prefer: wait")

// senders are the connections that jobs came on which end with them.
type senders struct {
	mu   sync.Mutex
	jobs map[job.ID]*sender
}

type sender struct {
	connections int
	gone        *time.Timer // nil: one of them is there
}

// stay notes that a connection of the job's sender is there. leave says that its answer is
// over; gone: because nobody was there to take it. cancel is called once no connection has
// been there for senderGrace.
func (s *senders) stay(id job.ID, cancel func()) (leave func(gone bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobs == nil {
		s.jobs = map[job.ID]*sender{}
	}
	who := s.jobs[id]
	if who == nil {
		who = &sender{}
		s.jobs[id] = who
	}
	who.connections++
	if who.gone != nil {
		who.gone.Stop()
		who.gone = nil
	}
	return func(gone bool) { s.left(id, who, gone, cancel) }
}

func (s *senders) left(id job.ID, who *sender, gone bool, cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	who.connections--
	switch {
	case who.connections > 0:
	case gone:
		var timer *time.Timer
		timer = time.AfterFunc(senderGrace, func() {
			if s.forget(id, who, &timer) {
				cancel()
			}
		})
		who.gone = timer
	case who.gone == nil:
		delete(s.jobs, id)
	}
}

// forget drops a sender whose time is over, unless it has come back meanwhile.
func (s *senders) forget(id job.ID, who *sender, timer **time.Timer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if who.gone != *timer {
		return false
	}
	delete(s.jobs, id)
	return true
}

// untilSenderLeaves answers with answer, and has the job canceled if its sender is gone
// before it is over. That the server stops is no doing of the sender's; neither is it
// known to the next process that there was one.
func (a *API) untilSenderLeaves(c *gin.Context, id job.ID, answer func() error) error {
	leave := a.senders.stay(id, func() { a.cancelFor(id) })
	gone := true // also if it panics
	defer func() { leave(gone) }()
	err := answer()
	gone = errors.Is(err, errReaderGone) || c.Request.Context().Err() != nil
	return err
}

func (a *API) cancelFor(id job.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), senderGrace)
	defer cancel()
	if _, err := a.Store.Cancel(ctx, id, anonymous, "its sender has left"); err != nil && !errors.Is(err, job.ErrNotFound) {
		a.Log.Warn("job whose sender has left not canceled", zap.String("job", string(id)), zap.Error(err))
	}
}

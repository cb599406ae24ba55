// Package index knows every job there is: those that live and those that are
// kept. It is a fold of the log, and small: the job itself is asked of the log.
package index

import (
	"context"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Log has the jobs.
type Log interface {
	Job(ctx context.Context, id job.ID) (job.Job, error)
}

// Index holds the head of every job.
type Index struct {
	log Log

	mu    sync.RWMutex // protects the fields below
	heads map[job.ID]head
	due   map[int64][]job.ID // those that ended, by the turn of Sweep that forgets them
	turn  int64              // the next one
}

// head is what is known of a job without asking the log.
type head struct {
	status  job.Status
	expires int64 // Unix milliseconds; 0: it lives
}

// New returns an empty Index over log.
func New(log Log) *Index {
	return &Index{log: log, heads: map[job.ID]head{}, due: map[int64][]job.ID{}, turn: turnAt(time.Now().UnixMilli())}
}

// Fold takes one commit of the log.
func (x *Index) Fold(c *job.Commit) {
	h := head{status: c.Job.Status}
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.Job.Erased {
		delete(x.heads, c.Job.ID)
		return
	}
	if h.status.Over() {
		h.expires = c.Job.ExpiresAt.UnixMilli()
		if x.heads[c.Job.ID].expires == 0 {
			turn := max(x.turn, turnAt(h.expires)+1) // the first at which it surely is expired
			x.due[turn] = append(x.due[turn], c.Job.ID)
		}
	}
	x.heads[c.Job.ID] = h
}

// Job returns a job as it stands. What does not exist, or is kept no longer, is
// job.ErrNotFound, without a question to the store.
func (x *Index) Job(ctx context.Context, id job.ID) (job.Job, error) {
	x.mu.RLock()
	h, ok := x.heads[id]
	x.mu.RUnlock()
	if !ok || h.expired(time.Now()) {
		return job.Job{}, job.ErrNotFound
	}
	return x.log.Job(ctx, id)
}

func (h head) expired(now time.Time) bool { return h.expires > 0 && now.UnixMilli() >= h.expires }

// sweepTime is how often Sweep looks for expired jobs: they are not served from
// the moment they expire, only their heads wait.
const sweepTime = 10 * time.Second

// Sweep forgets expired jobs until ctx ends.
func (x *Index) Sweep(ctx context.Context) {
	t := time.NewTicker(sweepTime)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			x.forget(now)
		}
	}
}

// turnAt returns the turn that a time in Unix milliseconds falls into.
func turnAt(milli int64) int64 { return milli / sweepTime.Milliseconds() }

// forget drops the heads of expired jobs, and looks at no others.
func (x *Index) forget(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for last := turnAt(now.UnixMilli()); x.turn <= last; x.turn++ {
		for _, id := range x.due[x.turn] {
			delete(x.heads, id)
		}
		delete(x.due, x.turn)
	}
}

// Len returns how many jobs are known.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.heads)
}

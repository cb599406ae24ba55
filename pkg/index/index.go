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
	ends  []expiry // in the order in which jobs ended
}

// head is what is known of a job without asking the log.
type head struct {
	status  job.Status
	expires int64 // Unix milliseconds; 0: it lives
}

type expiry struct {
	id job.ID
	at int64
}

// New returns an empty Index over log.
func New(log Log) *Index { return &Index{log: log, heads: map[job.ID]head{}} }

// Fold takes one commit of the log.
func (x *Index) Fold(c *job.Commit) {
	h := head{status: c.Job.Status}
	x.mu.Lock()
	defer x.mu.Unlock()
	if h.status.Over() {
		h.expires = c.Job.ExpiresAt.UnixMilli()
		if x.heads[c.Job.ID].expires == 0 {
			x.ends = append(x.ends, expiry{c.Job.ID, h.expires})
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

// forget drops the heads of expired jobs. Retention differs between jobs, so all
// that ended are looked at, once a sweep.
func (x *Index) forget(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	kept := x.ends[:0]
	for _, e := range x.ends {
		if now.UnixMilli() < e.at {
			kept = append(kept, e)
			continue
		}
		delete(x.heads, e.id)
	}
	clear(x.ends[len(kept):])
	x.ends = kept
}

// Len returns how many jobs are known.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.heads)
}

// Package janitor does to jobs what time does: it ends those that wait and are overdue.
// It is a fold of the log, and every act of it is a proposal that the log may find
// settled otherwise.
package janitor

import (
	"context"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Jobs is where jobs are ended.
type Jobs interface {
	// Expire ends the job if it waits and is overdue; else it does nothing.
	Expire(ctx context.Context, id job.ID) error
}

// Janitor knows when which job is overdue.
type Janitor struct {
	jobs Jobs
	log  *zap.Logger

	mu   sync.Mutex // protects the fields below
	due  map[job.ID]time.Time
	next *btree.BTreeG[item] // the same, in order
	wake chan struct{}       // one slot: what comes first has changed
}

type item struct {
	at time.Time
	id job.ID
}

func sooner(a, b item) bool {
	if !a.at.Equal(b.at) {
		return a.at.Before(b.at)
	}
	return a.id < b.id
}

// New returns a Janitor that does nothing before Run.
func New(jobs Jobs, log *zap.Logger) *Janitor {
	return &Janitor{
		jobs: jobs, log: log, due: map[job.ID]time.Time{}, wake: make(chan struct{}, 1),
		next: btree.NewBTreeGOptions(sooner, btree.Options{NoLocks: true}),
	}
}

// Fold takes one commit of the log.
func (j *Janitor) Fold(c *job.Commit) {
	at := c.Job.DueAt()
	j.mu.Lock()
	defer j.mu.Unlock()
	was, known := j.due[c.Job.ID]
	if known == !at.IsZero() && was.Equal(at) {
		return
	}
	if known {
		j.next.Delete(item{was, c.Job.ID})
		delete(j.due, c.Job.ID)
	}
	if !at.IsZero() {
		j.put(c.Job.ID, at)
	}
}

// put notes that a job is due. j.mu is held.
func (j *Janitor) put(id job.ID, at time.Time) {
	j.due[id] = at
	j.next.Set(item{at, id})
	if first, _ := j.next.Min(); first.id == id {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
}

// again is how long a job waits whose end could not be stored.
const again = time.Second

// hands is how many jobs are ended at a time: an end waits for the store, which takes
// those that come together at once; a flood of ends shall not fill its queue alone.
const hands = 64

// Run ends jobs when they are due, until ctx ends.
func (j *Janitor) Run(ctx context.Context) {
	var busy sync.WaitGroup
	defer busy.Wait()
	free := make(chan struct{}, hands)
	for ctx.Err() == nil {
		due, wait := j.claim(time.Now())
		if due.id == "" {
			j.rest(ctx, wait)
			continue
		}
		free <- struct{}{}
		busy.Go(func() {
			defer func() { <-free }()
			j.expire(ctx, due)
		})
	}
}

// rest returns after that time, or when something else comes first.
func (j *Janitor) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-j.wake:
	case <-ctx.Done():
	}
}

// longest is how long is waited at a time: timers know nothing of a clock that was set, or
// of a machine that was asleep.
const longest = time.Minute

// claim returns the job that is due, which nobody else then gets, or how long it is until
// one will be.
func (j *Janitor) claim(now time.Time) (item, time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	first, ok := j.next.Min()
	switch {
	case !ok:
		return item{}, longest
	case first.at.After(now):
		return item{}, min(longest, first.at.Sub(now))
	}
	j.next.Delete(first)
	return first, 0
}

// expire ends a claimed job.
func (j *Janitor) expire(ctx context.Context, due item) {
	err := j.jobs.Expire(ctx, due.id) // Fold hears of it meanwhile
	if err != nil && ctx.Err() == nil {
		j.log.Warn("overdue job not ended yet", zap.String("job", string(due.id)), zap.Error(err))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if at, known := j.due[due.id]; !known || !at.Equal(due.at) {
		return // it has ended, or is due at another time
	}
	delete(j.due, due.id)
	if err != nil {
		j.put(due.id, time.Now().Add(again))
	}
}

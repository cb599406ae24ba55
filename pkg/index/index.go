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

// Index holds a record of every job: about 100 bytes of each, and its tags and batch as
// long as some job has them.
type Index struct {
	log  Log
	most int // jobs that a page looks at
	step int // of them before the lock is let go

	mu      sync.RWMutex // protects the fields below
	byID    map[[16]byte]uint32
	records records
	order   order

	kinds, owners, batches pool
	tags                   sets
	counts                 [len(statuses)]int // of the records that are placed, by status

	due  map[int64]uint32 // those that ended, by the turn of Sweep that forgets them: the first of a chain
	turn int64            // the next one
}

// New returns an empty Index over log.
func New(log Log) *Index {
	x := &Index{
		log: log, most: maxLooks, step: stepSize, byID: map[[16]byte]uint32{}, kinds: newPool(), owners: newPool(), batches: newPool(), tags: sets{newPool(), newPool()},
		due: map[int64]uint32{}, turn: turnAt(time.Now().UnixMilli()),
	}
	x.order.records = &x.records
	return x
}

// Fold takes one commit of the log.
func (x *Index) Fold(c *job.Commit) {
	id, ok := c.Job.ID.Bytes()
	if !ok {
		return // nobody can ask for it
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h, known := x.byID[id]
	switch {
	case c.Job.Erased && known:
		x.erase(h)
		return
	case c.Job.Erased:
		return
	case !known:
		h = x.records.take()
		x.records.at(h).id = id
		x.byID[id] = h
	}
	x.become(h, c.Job)
}

// become notes how a job stands.
func (x *Index) become(h uint32, j *job.Job) {
	r, now := x.records.at(h), statusOf(j.Status)
	if !r.placed && now != 0 {
		x.place(h, r, j)
	}
	if r.placed {
		x.counts[r.status]--
		x.counts[now]++
	}
	r.status, r.last = now, j.Cursor.Position
	if j.Status.Over() {
		x.ended(h, r, j.ExpiresAt.UnixMilli())
	}
}

// place takes in what of a job does not change.
func (x *Index) place(h uint32, r *record, j *job.Job) {
	r.created = j.CreatedAt.UnixMilli()
	r.kind, _ = x.kinds.take([]byte(j.Kind))
	r.owner, _ = x.owners.take([]byte(j.Owner))
	r.batch, _ = x.batches.take([]byte(j.Batch))
	r.tags = x.tags.take(j.Tags)
	r.placed = true
	x.order.insert(h)
	x.counts[r.status]++
}

// ended notes when a job that is over is to be forgotten. It may be loaded twice, at
// start.
func (x *Index) ended(h uint32, r *record, expires int64) {
	if r.expires == 0 {
		turn := max(x.turn, turnAt(expires)+1) // the first at which it surely is expired
		r.next = x.due[turn]
		x.due[turn] = h
	}
	r.expires = expires
}

// Job returns a job as it stands. What does not exist, or is kept no longer, is
// job.ErrNotFound, without a question to the store.
func (x *Index) Job(ctx context.Context, id job.ID) (job.Job, error) {
	if !x.has(id, time.Now().UnixMilli()) {
		return job.Job{}, job.ErrNotFound
	}
	return x.log.Job(ctx, id)
}

func (x *Index) has(id job.ID, now int64) bool {
	key, ok := id.Bytes()
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.byID[key]
	return ok && h != 0 && !x.records.at(h).expired(now)
}

// sweepTime is how often Sweep looks for expired jobs: they are not served from
// the moment they expire, only their records wait.
const sweepTime = 10 * time.Second

// Sweep forgets expired jobs until ctx ends, and tells of them.
func (x *Index) Sweep(ctx context.Context, forgotten func([]job.ID)) {
	t := time.NewTicker(sweepTime)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			x.forget(now, forgotten)
		}
	}
}

// turnAt returns the turn that a time in Unix milliseconds falls into.
func turnAt(milli int64) int64 { return milli / sweepTime.Milliseconds() }

// stepSize is how many records are looked at, or forgotten, before the lock is let go:
// about a millisecond's. Whoever folds has to wait that long.
const stepSize = 1000

// forget drops the records of expired jobs, and looks at no others.
func (x *Index) forget(now time.Time, forgotten func([]job.ID)) {
	for more := true; more; {
		var gone []job.ID
		if gone, more = x.forgetSome(turnAt(now.UnixMilli())); len(gone) > 0 {
			forgotten(gone)
		}
	}
}

// forgetSome drops some of the records whose turn has come, and returns whose they were
// and whether there are more.
func (x *Index) forgetSome(last int64) (gone []job.ID, more bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n := 0; x.turn <= last; {
		h := x.due[x.turn]
		if h == 0 {
			delete(x.due, x.turn)
			x.turn++
			continue
		}
		if n++; n > x.step {
			return gone, true
		}
		r := x.records.at(h)
		x.due[x.turn] = r.next
		if r.placed { // else it was erased
			gone = append(gone, job.IDOf(r.id))
			x.drop(r)
		}
		x.records.give(h)
	}
	return gone, false
}

// erase forgets a job before its time. The record of one that is over waits, empty, for
// its turn: it is in the chain of those.
func (x *Index) erase(h uint32) {
	r := x.records.at(h)
	x.drop(r)
	if r.expires == 0 {
		x.records.give(h)
	}
}

// drop forgets a job; the record is nobody's then.
func (x *Index) drop(r *record) {
	delete(x.byID, r.id)
	if !r.placed {
		return
	}
	x.order.remove(r.place())
	x.counts[r.status]--
	x.kinds.give(r.kind)
	x.owners.give(r.owner)
	x.batches.give(r.batch)
	x.tags.give(r.tags)
	r.placed = false
}

// Len returns how many jobs are known.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.byID)
}

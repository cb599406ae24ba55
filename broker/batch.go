package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// group is a submit of many.
type group struct {
	b        *Broker
	requests []*job.Request // nil: not to be stored, or not any more
	once     *job.Once      // nil: it came without an idempotency key
	job.Batch
}

// SubmitAll stores the requests as the jobs of one batch and says what became of each.
// All are on their way, in their order, before the first is waited for. Requests that are
// nil are passed over, their outcomes too.
//
// With a key it may be repeated, as SubmitOnce: the key's record has the id of the batch,
// from which those of its jobs are made, so that one record, written before the first job,
// serves for all. A repeat stores those that were never there: whoever submitted them
// has died before, or there was no room.
func (b *Broker) SubmitAll(ctx context.Context, key, fingerprint string, requests []*job.Request) (job.Batch, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	g := &group{b: b, requests: slices.Clone(requests)}
	g.Outcomes = make([]job.Outcome, len(requests))
	first := slices.IndexFunc(requests, func(r *job.Request) bool { return r != nil })
	switch {
	case first < 0:
	case key == "":
		g.ID = job.NewBatchID()
		g.admit()
		g.store(ctx)
	default:
		g.once = &job.Once{Record: keyName(requests[first].Owner, key), Fingerprint: fingerprint}
		if err := g.storeOnce(ctx); err != nil {
			return job.Batch{}, err
		}
	}
	return g.Batch, nil
}

// admit makes room for the jobs, as far as there is any, and returns for how many. Behind
// one whose queue is full no other of its kind is let in: they are to run in their order.
func (g *group) admit() (admitted int) {
	full, promised := map[string]error{}, int64(0)
	for i, r := range g.requests {
		if r == nil {
			continue
		}
		err := full[r.Kind]
		if err == nil {
			err = g.b.admit(r, promised)
		}
		if err != nil {
			if errors.Is(err, job.ErrQueueFull) {
				full[r.Kind] = err
			}
			g.settle(i, job.Job{}, err)
			continue
		}
		promised += int64(len(r.Input)) + lastRecords/2 // twice this is what it will take
		admitted++
	}
	return admitted
}

// settle notes what became of a request, which is not to be stored any more.
func (g *group) settle(i int, j job.Job, err error) {
	g.Outcomes[i] = job.Outcome{Job: j, Err: err}
	g.requests[i] = nil
}

// store stores what was admitted.
func (g *group) store(ctx context.Context) {
	on := make([]*entering, len(g.requests))
	for i, r := range g.requests {
		if r != nil {
			q := *r
			q.Batch, q.Once = g.ID, g.once
			on[i] = g.b.begin(job.IDIn(g.ID, i), &q)
		}
	}
	for i, n := range on {
		if n != nil {
			o := &g.Outcomes[i]
			o.Job, _, o.Err = g.b.entered(ctx, n, nil)
		}
	}
}

// storeOnce stores the batch, or finds the one that was stored for the same key.
func (g *group) storeOnce(ctx context.Context) error {
	unlock, err := g.b.lockKey(ctx, g.once.Record)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := g.b.keyRecord(ctx, g.once.Record)
	switch {
	case errors.Is(err, errNone):
		return g.first(ctx, keyRecord{Batch: job.NewBatchID(), Fingerprint: g.once.Fingerprint, Time: time.Now().UTC()})
	case err != nil:
		return unavailable(err)
	case rec.Fingerprint != g.once.Fingerprint || rec.Batch == "":
		return errKeyReused
	}
	return g.again(ctx, rec.Batch)
}

// first stores the key and the jobs. If there is room for none of them, the key is not
// used.
func (g *group) first(ctx context.Context, rec keyRecord) error {
	g.ID = rec.Batch
	if g.admit() == 0 {
		return nil
	}
	if err := g.b.setKeyRecord(ctx, g.once.Record, rec, true); err != nil {
		for _, r := range g.requests {
			if r != nil {
				g.b.queue.Dismiss(r.Kind)
			}
		}
		return unavailable(err)
	}
	g.store(ctx)
	for i, r := range g.requests {
		if r != nil && !refusedForGood(g.Outcomes[i].Err) {
			return nil
		}
	}
	g.b.dropKey(ctx, g.once.Record, rec)
	return nil
}

// again finds the jobs of a key that was used, and stores those that were never there.
func (g *group) again(ctx context.Context, batch string) error {
	g.ID, g.Replayed = batch, true
	if g.find(ctx) == 0 {
		return nil
	}
	rec, err := g.b.keyRecord(ctx, g.once.Record) // after the look: a job that left before it is noted by now
	if err != nil {
		return unavailable(err)
	}
	for i, r := range g.requests {
		if r != nil && rec.was(job.IDIn(batch, i)) {
			g.settle(i, job.Job{}, job.ErrNotFound)
		}
	}
	g.admit()
	g.store(ctx)
	return nil
}

// find looks for the jobs, and returns how many there are not.
func (g *group) find(ctx context.Context) (missing int) {
	for i, r := range g.requests {
		if r == nil {
			continue
		}
		j, there, err := g.b.there(ctx, job.IDIn(g.ID, i))
		if !there && err == nil {
			missing++
			continue
		}
		g.settle(i, j, err)
	}
	return missing
}

// leaveBatch notes with the key of a batch that j was in the log, and with it all that are
// there now: the next ones to leave find it noted.
func (b *Broker) leaveBatch(j *job.Job) error {
	b.leaving.Lock()
	defer b.leaving.Unlock()
	rec, err := b.keyRecord(b.ctx, j.Once.Record)
	if err != nil || rec.was(j.ID) {
		return err
	}
	rec.note(j.ID)
	b.mu.Lock()
	for n := range job.MaxBatch {
		id := job.IDIn(rec.Batch, n)
		if e := b.jobs[id]; e != nil && e.job.Exists() {
			rec.note(id)
		}
	}
	b.mu.Unlock()
	return b.setKeyRecord(b.ctx, j.Once.Record, rec, false)
}

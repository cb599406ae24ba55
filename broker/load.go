package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// load folds the log and tells the folds of every job: of the finished ones from
// the archive first, then of those in the log.
func (b *Broker) load(ctx context.Context) error {
	marked, err := b.loadMarks(ctx)
	if err != nil {
		return err
	}
	b.damage = b.store.damage()
	relock, err := b.checkKeys(ctx, marked)
	if err != nil {
		return err
	}
	var keyed []*job.Job         // whose key records are to be looked at
	finished := map[job.ID]int{} // and in how many parts
	kept, bad := keeping{}, 0
	ended, err := b.store.scanArchive(ctx, func(s stored) {
		a, err := decodeArchive(s.subject, s.data)
		if err != nil {
			b.found("damaged archive entry", zap.String("job", s.subject), zap.Error(err))
			bad++
			b.loaded(&job.Job{ID: job.ID(s.subject)}) // that it is there
			return
		}
		finished[a.Job.ID] = len(a.Parts)
		b.archived(&a.Job, s.position)
		if s.position <= marked.Ended || a.Job.Erased { // then it lies in the place of one that was there
			kept.add(&a.Job)
		}
		if relock && a.Job.Once != nil {
			keyed = append(keyed, &a.Job)
		}
		if !a.Job.Erased {
			b.loaded(&a.Job)
		}
	})
	if err != nil {
		return err
	}
	b.checkArchive(marked, ended, kept, bad)
	first, last, err := b.store.scan(ctx, b.replay)
	if lost := (*lostError)(nil); errors.As(err, &lost) {
		b.found("the store has lost jobs or parts of them", zap.Uint64("messages", lost.messages))
		err = nil
	}
	if err != nil {
		return err
	}
	b.head = last
	b.checkLog(marked, first, last)
	inOrder := slices.SortedFunc(maps.Values(b.jobs), func(x, y *entry) int { return cmp.Compare(x.first, y.first) })
	for _, e := range inOrder {
		_, archived := finished[e.job.ID]
		b.sort(e, archived)
		if relock && e.job.Once != nil && !archived {
			keyed = append(keyed, &e.job)
		}
	}
	if err := b.restoreKeys(ctx, keyed); err != nil {
		return err
	}
	if err := b.sweepParts(ctx, finished); err != nil {
		return err
	}
	return b.sweepUploads(ctx)
}

// replay folds one message of the log, at start. A job of which one message is
// damaged, or missing, is damaged.
func (b *Broker) replay(s stored) {
	kind, id, ok := parseSubject(s.subject)
	if !ok {
		b.found("a message that is no job's", zap.String("subject", s.subject), zap.Uint64("position", s.position))
		return
	}
	e := b.jobs[id]
	if e == nil {
		e = &entry{subject: s.subject, first: s.position, job: job.Job{ID: id, Kind: kind}}
		b.put(e, s.position)
	}
	e.tail = s.position
	if err := b.replayInto(e, s); err != nil && e.damaged == nil {
		e.damaged = damagedBy(err)
	}
	if e.damaged != nil && e.moved != s.position {
		e.messages = append(e.messages, kept{position: s.position})
		b.floors.resize(e, e.size+int64(len(s.data)))
		b.written += int64(len(s.data))
	}
}

func (b *Broker) replayInto(e *entry, s stored) error {
	m, err := decode(s.subject, s.data)
	if err == nil && m.moved() {
		return b.restore(e, m, s.position) // whatever was wrong before it: it has all
	}
	if err == nil && e.damaged != nil {
		e.ended = m.ends()
	}
	if err != nil || e.damaged != nil {
		return err
	}
	e.remnant = !e.job.Exists() && m.First > 1 // if it was purged, all of it was archived
	e.ended = m.ends()
	after := e.job
	if err := m.fold(&after, s.position); err != nil {
		return err
	}
	e.job = after
	b.keep(e, m, s.data, s.position)
	for i := range m.Records {
		e.bytes += int64(len(m.Records[i].Data))
	}
	return nil
}

// sort says what a job found in the log is: live, over and to be archived, or the
// rest of one that is archived. b.jobs is changed.
func (b *Broker) sort(e *entry, archived bool) {
	switch {
	case archived, e.remnant && e.ended && !b.cut: // only the purge was left to do
		b.drop(e)
	case e.damaged != nil:
		// Kept in the log and not served: nothing is deleted that might be mended.
		b.found("damaged job", zap.String("job", string(e.job.ID)), zap.Uint64("position", e.tail), zap.Error(e.damaged))
		e.job = job.Job{ID: e.job.ID, Kind: e.job.Kind, Owner: e.job.Owner}
		b.unhold(e)
		b.loaded(&e.job) // that it is there
	case e.job.Status.Over():
		b.loaded(&e.job)
		b.finished(e)
	default:
		b.loaded(&e.job)
	}
}

// loaded tells the folds of a job as it stands.
func (b *Broker) loaded(j *job.Job) {
	for _, fold := range b.folds {
		fold(&job.Commit{Job: j})
	}
}

// drop forgets a job of the log and what is held of it. b.mu is held, or nobody
// else is there yet.
func (b *Broker) drop(e *entry) {
	b.unhold(e)
	b.room.owe(e, -e.owed)
	if b.jobs[e.job.ID] == e {
		b.remove(e)
	}
}

// unhold lets go of what is held in memory of e's messages.
func (b *Broker) unhold(e *entry) {
	b.cached -= e.held
	e.held = 0
	for i := range e.messages {
		e.messages[i].data = nil
	}
}

// voidWriters is how many jobs are taken back at once at start.
const voidWriters = 64

// voidLeases takes back the jobs that ran when the process ended: this is the only
// process of the store, so nobody holds them any more, unless it is a pull worker.
func (b *Broker) voidLeases() {
	var gone []*entry
	b.running(func(e *entry) {
		if b.asks[e.job.Kind] == nil || e.job.LeasedUntil.IsZero() { // else the worker is another process, and may live
			gone = append(gone, e)
		}
	})
	all := make(chan struct{})
	b.done.Go(func() { defer close(all); b.voidAll(gone) })
	select {
	case <-all:
	case <-time.After(answerTime): // the disk is full, say: what there is can be read, and nobody runs these jobs yet
	}
}

func (b *Broker) voidAll(list []*entry) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, voidWriters)
	for _, e := range list {
		slots <- struct{}{}
		wg.Go(func() {
			b.void(e)
			<-slots
		})
	}
	wg.Wait()
}

// running calls each with the jobs that run, with b.mu held.
func (b *Broker) running(each func(*entry)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.jobs {
		if e.damaged == nil && e.job.Status == job.StatusRunning {
			each(e)
		}
	}
}

// void takes one job back from an attempt that is no more.
func (b *Broker) void(e *entry) {
	err := b.append(b.ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		return []job.Record{lost(j)}, j.Status == job.StatusRunning
	}})
	if err == nil || errors.Is(err, job.ErrLeaseLost) || b.ctx.Err() != nil {
		return
	}
	b.log.Error("lost lease not voided yet", zap.String("job", string(e.job.ID)), zap.Error(err))
	time.AfterFunc(storeTime, func() { b.void(e) }) // until then nobody runs it
}

// lost is what follows an attempt whose process is gone.
func lost(j *job.Job) job.Record {
	switch {
	case !j.CancelRequestedAt.IsZero():
		return canceled(j)
	case j.AtMostOnce:
		p := job.Problemf("outcome-unknown", "the worker's process ended while the request was out; kinds that are not idempotent are not repeated")
		p.Attempt = j.Attempt
		return failed(j, p)
	case j.Attempt >= j.MaxAttempts:
		p := job.Problemf("attempts-used-up", "the process of attempt %d of %d ended", j.Attempt, j.MaxAttempts)
		if !j.LeasedUntil.IsZero() {
			p.Detail = fmt.Sprintf("the worker of attempt %d of %d was not heard of any more", j.Attempt, j.MaxAttempts)
		}
		p.Attempt = j.Attempt
		return failed(j, p)
	}
	return queuedAgain(j, j.Attempt+1, job.ReasonLeaseLost, time.Time{})
}

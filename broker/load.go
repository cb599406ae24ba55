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

// load folds the log and tells the folds of every job: of the finished ones, as the
// archive is read, then of those in the log.
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
	first, last, err := b.store.scan(ctx, b.replay)
	lost := (*lostError)(nil)
	if err != nil && !errors.As(err, &lost) {
		return err
	}
	a := loading{b: b, marked: marked, relock: relock, kept: keeping{}, finished: map[job.ID]int{}}
	ended, err := b.heads(ctx, a.head)
	if err != nil {
		return err
	}
	b.checkArchive(marked, ended, a.kept, a.bad)
	if lost != nil {
		b.found("the store has lost jobs or parts of them", zap.Uint64("messages", lost.messages))
	}
	b.head = last
	b.checkLog(marked, first, last)
	inOrder := slices.SortedFunc(maps.Values(b.jobs), func(x, y *entry) int { return cmp.Compare(x.first, y.first) })
	for _, e := range inOrder {
		_, archived := a.finished[e.job.ID]
		b.sort(e, archived)
		if relock && e.job.Once != nil && !archived {
			a.keyed = append(a.keyed, &e.job)
		}
	}
	if err := b.restoreKeys(ctx, a.keyed); err != nil {
		return err
	}
	if err := b.sweepParts(ctx, a.finished); err != nil {
		return err
	}
	if err := b.loadDeliveries(ctx, marked); err != nil {
		return err
	}
	return b.sweepUploads(ctx)
}

// loading is the part of a load that is about the archive.
type loading struct {
	b        *Broker
	marked   marks
	relock   bool           // key records are to be looked at
	keyed    []*job.Job     // whose they are
	kept     keeping        // that the archive has of those that were noted
	bad      int            // damaged heads
	finished map[job.ID]int // how many parts a job has; of those that have none, only whom the log has too
}

// head takes in the head of a finished job.
func (l *loading) head(h *head) {
	b, j := l.b, &h.job
	if h.err != nil {
		b.found("damaged archive entry", zap.String("job", h.name), zap.Error(h.err))
		l.bad++
		b.loaded(&job.Job{ID: job.ID(h.name)}) // that it is there
		return
	}
	if h.parts > 0 || b.jobs[j.ID] != nil {
		l.finished[j.ID] = h.parts
	}
	b.archived(j, h.position)
	if h.position <= l.marked.Ended || j.Erased { // then it lies in the place of one that was there
		l.kept.add(j)
	}
	if l.relock && j.Once != nil {
		own := *j
		l.keyed = append(l.keyed, &own)
	}
	if !j.Erased {
		b.loaded(j)
	}
}

const (
	// headBatch is how many heads are handed on at once.
	headBatch = 256
	// headBatches is how many of these there are, read or being read.
	headBatches = 8
)

// heads calls each with the heads of the archive, which are read beside it, a few ahead. It
// returns the place of the archive's last entry.
func (b *Broker) heads(ctx context.Context, each func(*head)) (ended uint64, err error) {
	read, free := make(chan []head, headBatches), make(chan []head, headBatches)
	for range headBatches {
		free <- make([]head, 0, headBatch)
	}
	go func() {
		defer close(read)
		r, batch := headReader{texts: map[string]string{}}, <-free
		ended, err = b.store.scanArchive(ctx, func(s stored) {
			if len(batch) == headBatch {
				read <- batch
				batch = <-free
			}
			batch = batch[:len(batch)+1]
			r.read(s, &batch[len(batch)-1])
		})
		read <- batch
	}()
	for batch := range read {
		for i := range batch {
			each(&batch[i])
		}
		free <- batch[:0]
	}
	return ended, err
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
	b.tail.loaded(j.Cursor)
	c := &job.Commit{Job: j}
	for _, fold := range b.folds {
		fold(c)
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

// void takes one job back from an attempt that is no more, and removes what that has stored
// of a result.
func (b *Broker) void(e *entry) {
	var lease uint64
	err := b.append(b.ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		lease = j.Lease
		return []job.Record{lost(j)}, j.Status == job.StatusRunning
	}})
	if err == nil {
		b.mu.Lock()
		b.discard(piecesName(e.job.ID, lease), time.Time{})
		b.mu.Unlock()
	}
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

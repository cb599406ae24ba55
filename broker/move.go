package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// The log is purged at its front only, so the oldest job that is not over holds
// all that came after it: one that runs for days, one whose kind nobody serves any
// more, one that is damaged. When that is much, what the log has of such a job is
// moved: packed into the archive, and a part record put in its place at the end of
// the log, which has the job's state and says where its messages are. Killed between
// the two, the next start finds the messages in the log, and the parts that no part
// record names are swept.

const (
	// purgeTime is how often JOBS is purged behind what is archived: in big steps it
	// costs little, and the log stays a matter of seconds.
	purgeTime = time.Second
	// moveBehind is how much may lie in the log that nobody needs before jobs are moved:
	// what is read in a few seconds at start.
	moveBehind = 1 << 30
	// moveShare bounds it in a small store.
	moveShare = 1.0 / 8
)

// live is what a part record has of a job beside its JSON form.
type live struct {
	Request       *job.Request    `json:"request,omitempty"`
	CancelRequest json.RawMessage `json:"cancel_request,omitempty"`
	Failures      []*job.Problem  `json:"failures,omitempty"`
	Lease         uint64          `json:"lease,omitempty"`
	Node          string          `json:"node,omitempty"`
	AtMostOnce    bool            `json:"at_most_once,omitempty"`
	LeasedUntil   time.Time       `json:"leased_until,omitzero"`
	Checkpoint    json.RawMessage `json:"checkpoint,omitempty"`
	First         uint64          `json:"first"`            // position of the job's first message
	Bytes         int64           `json:"bytes"`            // of its events
	Damage        string          `json:"damage,omitempty"` // why it is not served
}

// purgeBelow purges JOBS below mark, of which mark once said that nothing is needed.
func (b *Broker) purgeBelow(mark uint64) {
	if mark <= b.purged.Load()+1 {
		return
	}
	err := b.saveMarks(b.ctx, mark-1)
	if err == nil {
		err = b.store.sync(b.ctx) // the archive, before what it was made of goes
	}
	if err == nil {
		err = b.store.purge(b.ctx, mark)
	}
	if err != nil {
		if b.ctx.Err() == nil {
			b.log.Warn("log not purged", zap.Error(err))
		}
		return
	}
	b.purged.Store(mark - 1)
}

// mark returns the position below which nothing is needed any more.
func (b *Broker) mark() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.floors.first(); first != nil {
		return min(b.head+1, first.floor)
	}
	return b.head + 1
}

// Purged returns the position up to which the log was purged.
func (b *Broker) Purged() uint64 { return b.purged.Load() }

// moveOld moves the jobs that hold the log, the oldest first, until it has not much more
// in it than what live jobs need.
func (b *Broker) moveOld() {
	for e := b.oldest(); e != nil; e = b.oldest() {
		err := b.move(e)
		if err == nil {
			continue
		}
		if b.ctx.Err() == nil && !e.stuck {
			e.stuck = true // said once
			b.log.Warn("job not moved: it holds the log behind it", zap.String("job", string(e.job.ID)), zap.Error(err))
		}
		return
	}
}

// oldest returns the job that holds the log, if there is too much in it that nobody
// needs, and room for what a move takes.
func (b *Broker) oldest() (oldest *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	oldest = b.floors.first()
	if oldest == nil {
		return nil
	}
	// To move a job writes what it has once more: as long as that is less than what
	// becomes free, the work is worth it.
	needed := b.floors.size
	if garbage := b.written - oldest.behind - needed; garbage <= max(b.moveBehind, needed) {
		return nil
	}
	switch {
	case !b.room.has(oldest.size, 1): // it must wait
	case oldest.damaged != nil, oldest.job.Exists() && !oldest.job.Status.Over(): // else it will be archived
		return oldest
	}
	return nil
}

// move packs what the log has of a job and puts a part record in its place. Most of
// it is packed while the job goes on, the rest while its writes wait.
func (b *Broker) move(e *entry) error {
	b.mu.Lock()
	early := *e
	b.mu.Unlock()
	p := packing{store: b.store, ctx: b.ctx, name: string(early.job.ID)}
	if err := b.repack(&p, &early); err != nil {
		return err
	}
	if err := b.hold(e); err != nil {
		return err
	}
	defer b.release(e)
	if e.job.Status.Over() {
		return p.dismiss() // it will be archived
	}
	if err := b.packMessages(&p, e.subject, e.messages[len(early.messages):]); err != nil {
		return err
	}
	a := archive{Job: e.job, Live: liveOf(e)}
	var err error
	if a.Parts, a.pack, err = p.end(); err != nil {
		return err
	}
	return b.replace(e, &a)
}

// liveOf returns what the part record of e has beside the job.
func liveOf(e *entry) *live {
	l := &live{
		Request: e.job.Request, CancelRequest: e.job.CancelRequest, Failures: e.job.Failures, Lease: e.job.Lease, Node: e.job.Node, AtMostOnce: e.job.AtMostOnce,
		LeasedUntil: e.job.LeasedUntil, Checkpoint: e.job.Checkpoint, First: e.first, Bytes: e.bytes,
	}
	if e.damaged != nil {
		l.Damage = e.damaged.Error()
	}
	return l
}

// replace stores a part record of e, which is held.
func (b *Broker) replace(e *entry, a *archive) error {
	w := &write{done: make(chan error, 1), propose: func(*job.Job) ([]job.Record, bool) { return nil, false }}
	b.mu.Lock()
	m := b.frameOf(e)
	m.Attachment = a.encode()
	bt := &batch{after: e.job, frame: m, data: m.encode(), writes: []*write{w}}
	if len(bt.data) > b.store.maxMessage() {
		b.mu.Unlock()
		return fmt.Errorf("part record of %d bytes: %w", len(bt.data), job.ErrTooLarge)
	}
	b.launch(e, bt)
	b.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// hold waits until nothing of e is in flight and keeps it so until release: what
// is stored of it does not change meanwhile, and what is to be written waits.
func (b *Broker) hold(e *entry) error {
	b.mu.Lock()
	e.still = make(chan struct{})
	if !e.inFlight {
		close(e.still)
	}
	still := e.still
	b.mu.Unlock()
	select {
	case <-still:
		return nil
	case <-b.ctx.Done():
		b.release(e)
		return context.Cause(b.ctx)
	}
}

func (b *Broker) release(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.still = nil
	b.flush(e)
}

// rebase takes a part record, stored at position, for all that came before it. b.mu is
// held, or nobody else is there yet.
func (b *Broker) rebase(e *entry, m *frame, position uint64) {
	b.unhold(e)
	b.room.owe(e, -e.owed)
	b.room.owe(e, lastRecords+int64(len(m.Attachment)))
	e.messages, e.moved = nil, position
	b.floors.resize(e, int64(len(m.Attachment)))
	b.floors.move(e, position, b.written)
}

// restore makes e what the part record m, found at position, says.
func (b *Broker) restore(e *entry, m *frame, position uint64) error {
	a, err := decodeArchive(string(m.ID), m.Attachment)
	if err != nil || a.Live == nil {
		return errDamaged
	}
	l := a.Live
	e.job = a.Job
	e.job.Request, e.job.CancelRequest, e.job.Failures = l.Request, l.CancelRequest, l.Failures
	e.job.Lease, e.job.Node, e.job.AtMostOnce = l.Lease, l.Node, l.AtMostOnce
	e.job.LeasedUntil, e.job.Checkpoint = l.LeasedUntil, l.Checkpoint
	if l.Request != nil {
		l.Request.Kind, l.Request.Owner = m.Kind, m.Owner
	}
	e.first, e.bytes, e.damaged = l.First, l.Bytes, nil
	e.remnant, e.ended = false, false
	if l.Damage != "" {
		e.damaged = toldDamage(l.Damage)
	}
	b.rebase(e, m, position)
	return nil
}

// partRecord reads the part record at position; errNone: it has been replaced.
func (b *Broker) partRecord(ctx context.Context, subject string, position uint64) (*archive, error) {
	s, err := b.load1(ctx, subject, kept{position: position})
	if err != nil {
		return nil, err
	}
	m, err := decode(s.subject, s.data)
	if err != nil {
		return nil, err
	}
	return decodeArchive(string(m.ID), m.Attachment)
}

// sweepParts lets those parts expire that nobody names: the process was killed before
// it had stored who does. finished has the number of parts of each job that is over.
// After damage nothing is swept: who would name a part may be what is damaged.
func (b *Broker) sweepParts(ctx context.Context, finished map[job.ID]int) error {
	if b.damage > 0 {
		return nil
	}
	names, err := b.store.names(ctx, "*.*")
	if err != nil {
		return err
	}
	for _, name := range names {
		id, n, ok := parsePart(name)
		if _, live := b.jobs[id]; live || ok && n < finished[id] {
			continue
		}
		if err := b.store.put(ctx, name, nil, time.Second); err != nil {
			return err
		}
	}
	return nil
}

package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// entry is a job of the log: its fold, where its messages lie, and what waits to
// be stored behind them.
type entry struct {
	subject  string
	job      job.Job
	messages []kept
	labels   *job.Labels // made with its first commit in this life
	tail     uint64      // position of the last message: the fence
	first    uint64      // position of its first message
	floor    uint64      // what is in the log lies here or above
	moved    uint64      // position of its part record, which has all before; 0: there is none
	behind   int64       // bytes of the log before floor
	placed   bool        // it is among the floors
	size     int64       // bytes that it has in the log
	bytes    int64       // of its events
	held     int64       // bytes of messages held here
	owed     int64       // bytes that its archive may take
	pending  []*write
	inFlight bool
	still    chan struct{} // not nil: nothing is published until release; closed when nothing is in flight
	task     *Task         // the attempt that runs in this process
	damaged  error         // what is stored cannot be read: the job is not served
	missed   int           // claims for which its first message was not there
	stuck    bool          // it could not be moved; the archiver's own
	remnant  bool          // at start: its first message was not there
	ended    bool          // at start: its last message says that it is over
}

// kept is where a message of a job lies, and its bytes if they are held.
type kept struct {
	position uint64
	size     int
	data     []byte
}

const (
	// holdJob and holdAll bound the messages held in memory until a job is over, so
	// that most jobs are archived without a read.
	holdJob = 32 << 10
	holdAll = 128 << 20
	// joinLimit is the size from which a message takes no further writes.
	joinLimit = 256 << 10
	// recordSize is about what a record takes beside its data.
	recordSize = 200
)

// proposal says what to store behind the job as it stands; ok false: nothing may
// be, now. It is asked before each publish and again after each refusal, so it must
// depend on nothing else: whoever changed the job in between, the question is
// the same.
type proposal func(j *job.Job) (records []job.Record, ok bool)

// held proposes records for as long as lease is the job's lease.
func held(lease uint64, records ...job.Record) proposal {
	return func(j *job.Job) ([]job.Record, bool) {
		return records, j.Status == job.StatusRunning && (j.Lease == lease || !guarded)
	}
}

// write is a proposal on its way to the store.
type write struct {
	propose    proposal
	attachment []byte
	lease      uint64 // whose attachment it is; 0: the request's
	done       chan error
	dropped    func()   // called once, without a word to the Broker, if it comes not to be stored; may be nil
	after      *job.Job // once it is stored: the job as the message left it
}

// batch is a message on its way to the store.
type batch struct {
	frame  *frame
	data   []byte
	after  job.Job // once it is stored
	writes []*write
}

// append stores what w proposes behind all that is stored of the job. It returns
// when it is stored, was not allowed (job.ErrLeaseLost), or when ctx ends; then it
// may still be stored later. Writes that come while a message of the job is in
// flight are joined into the next one: no timer, one fence.
func (b *Broker) append(ctx context.Context, e *entry, w *write) error {
	b.mu.Lock()
	b.enqueue(e, w)
	b.mu.Unlock()
	return b.await(ctx, e, w, nil)
}

// enqueue puts w in line. b.mu is held.
func (b *Broker) enqueue(e *entry, w *write) {
	w.done = make(chan error, 1)
	if e.damaged != nil {
		w.tell(unavailable(e.damaged))
		return
	}
	e.pending = append(e.pending, w)
	if !e.inFlight {
		b.flush(e)
	}
}

// await waits for the verdict on w, until ctx ends or late comes.
func (b *Broker) await(ctx context.Context, e *entry, w *write, late <-chan time.Time) (err error) {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
		err = unavailable(context.DeadlineExceeded)
	}
	select {
	case err := <-w.done: // both have come
		return err
	default:
	}
	b.withdraw(e, w)
	return err
}

// withdraw takes back a write that is not on its way yet.
func (b *Broker) withdraw(e *entry, w *write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(e.pending, w); i >= 0 {
		e.pending = slices.Delete(e.pending, i, i+1)
		w.tell(job.ErrLeaseLost)
	}
	b.forget(e)
}

// flush publishes the next message of e, if anything may be in it. b.mu is held.
func (b *Broker) flush(e *entry) {
	for !e.inFlight && e.still == nil && len(e.pending) > 0 {
		bt := b.join(e, len(e.pending))
		if len(bt.data) > b.store.maxMessage() && len(bt.writes) > 1 { // each by itself may fit
			e.pending = append(bt.writes, e.pending...)
			bt = b.join(e, 1)
		}
		switch {
		case len(bt.writes) == 0: // none was allowed
		case len(bt.data) > b.store.maxMessage():
			bt.tell(job.Problemf("too-large", "the store takes messages of at most %d bytes", b.store.maxMessage()))
		default:
			b.launch(e, bt)
		}
	}
	b.forget(e)
}

// launch publishes bt. b.mu is held, and nothing of e is in flight.
func (b *Broker) launch(e *entry, bt *batch) {
	e.inFlight = true
	b.room.inFlight.Add(int64(len(bt.data)))
	b.store.publish(e.subject, e.tail, bt.data, func(position uint64, err error) { b.verdict(e, bt, position, err) })
}

// frameOf returns a new message behind all that is stored of e. b.mu is held.
func (b *Broker) frameOf(e *entry) *frame {
	b.writes++
	return &frame{
		ID: e.job.ID, Kind: e.job.Kind, Owner: e.job.Owner, Epoch: b.epoch,
		Writer: b.node + "." + strconv.FormatUint(b.writes, 36), First: e.job.Cursor.Seq + 1,
	}
}

// join takes at most so many writes out of e.pending and makes one message of them.
// b.mu is held.
func (b *Broker) join(e *entry, most int) *batch {
	bt := &batch{after: e.job, frame: b.frameOf(e)}
	now, size := time.Now().UTC().Truncate(time.Millisecond), 0
	for ; most > 0; most-- {
		w := e.pending[0]
		if len(bt.writes) > 0 && (size >= joinLimit || w.attachment != nil || bt.frame.Attachment != nil) {
			break
		}
		e.pending[0] = nil // a job that waits for long holds its entry, and not what was asked for
		e.pending = e.pending[1:]
		size += bt.add(w, now)
	}
	if len(bt.writes) > 0 {
		bt.data = bt.frame.encode()
	}
	return bt
}

// add asks w, numbers its records, and returns their size.
func (bt *batch) add(w *write, now time.Time) (size int) {
	records, ok := w.propose(&bt.after)
	if !ok {
		w.tell(job.ErrLeaseLost)
		return 0
	}
	before, from := bt.after, len(bt.frame.Records)
	bt.frame.Records = append(bt.frame.Records, records...) // a copy: w may be asked again
	for i := range records {
		r := &bt.frame.Records[from+i]
		r.Seq, r.Time = bt.after.Cursor.Seq+1, now
		if r.Attempt == 0 {
			r.Attempt = bt.after.Attempt
		}
		if err := bt.after.Fold(r, job.Place{Epoch: bt.frame.Epoch}); err != nil {
			bt.after, bt.frame.Records = before, bt.frame.Records[:from]
			w.tell(err)
			return 0
		}
		size += len(r.Data) + recordSize
	}
	if w.attachment != nil {
		bt.frame.Attachment, bt.frame.Lease = w.attachment, w.lease
	}
	bt.writes = append(bt.writes, w)
	return size
}

// tell tells the writers the verdict; nil: it is stored.
func (bt *batch) tell(err error) {
	for _, w := range bt.writes {
		w.tell(err)
	}
}

// tell tells the writer the verdict.
func (w *write) tell(err error) {
	w.done <- err
	if err != nil && w.dropped != nil {
		w.dropped()
	}
}

// verdict takes the store's answer to a publish.
func (b *Broker) verdict(e *entry, bt *batch, position uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, errRefused) && b.ctx.Err() == nil {
		b.done.Go(func() { b.readOn(e, bt) })
		return
	}
	b.settle(e, bt, position, err)
}

// settle ends the flight of bt. b.mu is held.
func (b *Broker) settle(e *entry, bt *batch, position uint64, err error) {
	if err == nil {
		if len(bt.frame.Records) > 0 {
			bt.after.Cursor.Place = job.Place{Position: position, Epoch: bt.frame.Epoch}
		}
		b.commit(e, bt.frame, bt.data, position, bt.after)
		for _, w := range bt.writes {
			w.after = &bt.after
		}
	}
	bt.tell(err)
	b.landed(e, bt)
	b.flush(e)
}

// landed takes bt for no longer in flight. b.mu is held.
func (b *Broker) landed(e *entry, bt *batch) {
	e.inFlight = false
	b.room.inFlight.Add(-int64(len(bt.data)))
	if e.still != nil && !isClosed(e.still) {
		close(e.still)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// commit folds a stored message and tells the folds. b.mu is held.
func (b *Broker) commit(e *entry, m *frame, data []byte, position uint64, after job.Job) {
	was, before, erases := e.job.Status, e.job.Cursor, after.Erased && !e.job.Erased
	if before.Start() {
		e.first = position
		b.floors.move(e, position, b.written)
	}
	e.job, e.tail = after, position
	b.room.used.Add(int64(len(data)))
	b.keep(e, m, data, position)
	b.head = max(b.head, position)
	if m.moved() {
		b.follow(position, nil)
		return // it says nothing new
	}
	if e.labels == nil {
		labels := e.job.Labels()
		e.labels = &labels
	}
	c := &job.Commit{Labels: e.labels, Was: was, Before: before, Job: &e.job, Events: m.events(position), Erases: erases}
	for i := range c.Events {
		e.bytes += int64(len(c.Events[i].Data))
	}
	for _, fold := range b.folds {
		fold(c)
	}
	b.follow(position, c)
	if e.task != nil {
		e.task.follow(&e.job)
	}
	if e.job.Status.Over() && !was.Over() {
		b.finished(e)
	}
}

// keep remembers where a message lies, and its bytes while they are few.
func (b *Broker) keep(e *entry, m *frame, data []byte, position uint64) {
	k, n := kept{position: position, size: len(data)}, int64(len(data))
	b.written += n
	if m.moved() {
		b.rebase(e, m, position)
		return
	}
	b.room.stored(e, n)
	b.floors.resize(e, e.size+n)
	if e.held+n <= holdJob && b.cached+n <= holdAll {
		k.data = data
		e.held += n
		b.cached += n
	}
	e.messages = append(e.messages, k)
}

// forget drops an entry that has nothing in the log and nothing under way.
func (b *Broker) forget(e *entry) {
	if !e.inFlight && len(e.pending) == 0 && !e.job.Exists() && e.damaged == nil && b.jobs[e.job.ID] == e {
		b.remove(e)
	}
}

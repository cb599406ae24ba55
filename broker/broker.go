// Package broker is the log of Millstream, and the only package that knows
// Watermill and NATS. A job's topic is jobs.<kind>.<id>: its first record carries
// the request, its progress and its result come back on the same topic.
//
//	Submit, Cancel, Task ─▶ log.go: propose, join, publish behind the fence
//	                            │ ack            │ refused: readOn, then ask again
//	                            ▼                ▼
//	                        commit ─▶ the folds that Observe was given (queue, hub, index)
//	                            │ over
//	                            ▼
//	                        archive.go: one packed message in DONE, then JOBS is purged behind it
//
// Watermill's Publisher is Submit, its Subscriber hands out what the queue says
// may run, its Router runs the workers.
package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Queue says which job may run next. It is a fold of the log: Observe tells it
// what happened.
type Queue interface {
	// Take waits for a job of one of the kinds that may run now, within its kind's
	// concurrency, and sets it aside for this claim.
	Take(ctx context.Context, kinds ...string) (job.ID, error)
	// TryTake is Take for who does not wait.
	TryTake(kinds ...string) (id job.ID, ok bool)
	// Return ends a claim that did not succeed; if the job still waits, it may be
	// taken again after pause.
	Return(id job.ID, pause time.Duration)
	// Admit makes room for one more job of kind, or says job.ErrQueueFull. The
	// room is used by the job's first commit, or given back by Dismiss.
	Admit(kind string) error
	// Dismiss gives back the room of a job that was not stored.
	Dismiss(kind string)
}

// Options say how a Broker is opened.
type Options struct {
	Dir      string // of the embedded store; empty with URL empty: memory
	MaxStore int64  // bytes the embedded store may take
	URL      string // of a NATS server to use in place of the embedded one

	// PowerSafe: what is told as stored, or shown to anybody, outlives a loss of power.
	// It is for the embedded store; a NATS server is told by its own configuration.
	PowerSafe bool

	Kinds []job.Kind
	Queue Queue
	// Due is told of every delivery that is to be made, when it is stored, and at start. One that
	// it does not take is given up. It must not call the Broker; nil: nobody makes any.
	Due func(*job.Delivery) (taken bool)

	Folds []func(*job.Commit) // told of every message, in order within a job; they must not call the Broker
	Tail  Tail                // follows the log; may be nil
	Log   *zap.Logger
}

// Broker is the log. Its methods may be called from any goroutine.
type Broker struct {
	store store
	queue Queue
	folds []func(*job.Commit)
	due   func(*job.Delivery) bool
	kinds map[string]job.Kind
	log   *zap.Logger
	epoch uint64
	node  string // this incarnation of the process

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	done  sync.WaitGroup  // the broker's goroutines
	sound context.Context // ends when the store has to be folded anew
	spoil context.CancelCauseFunc

	leasing    context.Context // ends with Drain: nobody leases any more
	endLeasing context.CancelCauseFunc
	asks       map[string]chan ask // of each pull kind

	closeOnce sync.Once

	room   room
	purged atomic.Uint64 // position up to which JOBS was purged

	moveBehind int64 // bytes; see there

	leaving sync.Mutex // held by who changes the key record of a batch

	mu         sync.Mutex // protects the fields below, and every entry
	jobs       map[job.ID]*entry
	floors     floors // of the same
	lives      lives
	tail       tail
	writes     uint64 // number of the last message
	head       uint64 // last position that is known
	cached     int64  // bytes of messages held in entries
	written    int64  // bytes of all messages that came by
	marked     []byte // the marks, as they are stored
	ended      uint64 // place of the last job in the archive
	kept       keeping
	keysEnded  uint64 // place of the last key record
	keysKept   keeping
	hooksEnded uint64 // place of the last entry of a delivery
	doubts     doubts
	keys       map[string]chan struct{} // that are in use; closed when they are free
	purging    uint64                   // position up to which the log may have been purged
	damage     int                      // found at start
	cut        bool                     // of that: the beginning of the log
	fresh      bool                     // no process has had the store before
	closing    bool
	litter     litter        // to be removed
	over       []*entry      // to be archived
	overCh     chan struct{} // says that there are some; one slot
}

// Open opens the store, folds its log and tells the folds of every job in it. A
// single process owns its store: attempts that were running in another are over, and their
// jobs queued again.
func Open(ctx context.Context, opt Options) (*Broker, error) {
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	s, err := openStore(ctx, opt)
	if err != nil {
		return nil, err
	}
	s = early(s)
	b, err := open(ctx, s, opt)
	if err != nil {
		s.close()
		return nil, err
	}
	return b, nil
}

func openStore(ctx context.Context, opt Options) (store, error) {
	switch {
	case opt.URL != "":
		return openRemote(ctx, opt.URL)
	case opt.Dir != "":
		return openEmbedded(ctx, opt)
	}
	return newMemory(), nil
}

// open makes a Broker over s and starts its goroutines.
func open(ctx context.Context, s store, opt Options) (*Broker, error) {
	b := &Broker{
		store: s, queue: opt.Queue, folds: opt.Folds, due: opt.Due, kinds: map[string]job.Kind{}, log: opt.Log,
		node: uuid.NewString()[:8], jobs: map[job.ID]*entry{}, floors: newFloors(), kept: keeping{}, keysKept: keeping{}, keys: map[string]chan struct{}{}, doubts: doubts{}, asks: map[string]chan ask{}, overCh: make(chan struct{}, 1), moveBehind: moveBehind, tail: tail{to: opt.Tail},
	}
	if opt.MaxStore > 0 {
		b.moveBehind = min(moveBehind, int64(moveShare*float64(opt.MaxStore)))
	}
	if b.log == nil {
		b.log = zap.NewNop()
	}
	for _, k := range opt.Kinds {
		k = k.WithDefaults()
		b.kinds[k.Name] = k
		if k.Lease > 0 {
			b.asks[k.Name] = make(chan ask)
		}
	}
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	b.sound, b.spoil = context.WithCancelCause(b.ctx)
	b.leasing, b.endLeasing = context.WithCancelCause(b.ctx)
	var err error
	_, err = s.setting(ctx, epochSetting)
	b.fresh = errors.Is(err, errNone)
	b.epoch, err = beginEpoch(ctx, s)
	if errors.Is(err, errFull()) { // it serves what it has; that the epoch is the time must do
		b.log.Warn("the store is full", zap.Error(err))
		err = nil
	}
	if err != nil {
		return nil, err
	}
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	b.beginLife(ctx, b.head)
	b.tail.begin(b.head, b.epoch)
	if err := s.sync(ctx); err != nil { // what a killed process has left, before anybody sees it
		return nil, err
	}
	b.measureOnce()
	b.done.Go(b.measure)
	b.done.Go(b.archiveAll)
	b.voidLeases()
	return b, nil
}

// Close ends the broker's goroutines and closes the store. The tasks should be
// over by then: what they write afterwards is not stored.
func (b *Broker) Close() error {
	b.closeOnce.Do(func() {
		b.mu.Lock()
		b.closing = true
		b.stop() // under the lock: no verdict starts a goroutine after it
		b.mu.Unlock()
		b.done.Wait()
		b.lastMarks()
		b.store.close()
	})
	return nil
}

// kind returns the rules of a kind.
func (b *Broker) kind(name string) job.Kind { return job.Rules(b.kinds, name) }

// probe is the setting that Ready writes.
const probe = "probe"

// Ready reports whether a write would be stored now, by storing one: a full disk
// makes a store time out while it says that it is well.
func (b *Broker) Ready(ctx context.Context) error {
	if b.isClosing() {
		return job.ErrDraining
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return b.store.set(ctx, probe, []byte(time.Now().UTC().Format(time.RFC3339)), false)
}

func (b *Broker) isClosing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closing
}

// Drain refuses new jobs from now on; those that run go on.
func (b *Broker) Drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closing = true
	b.endLeasing(job.ErrDraining)
}

// Secret returns the secret kept under name, which is made on the first call and
// shared by all processes on the store.
func (b *Broker) Secret(ctx context.Context, name string, fresh []byte) ([]byte, error) {
	secret, err := b.store.setting(ctx, name)
	if !errors.Is(err, errNone) {
		return secret, err // without a write, which a full disk does not take
	}
	if err := b.store.set(ctx, name, fresh, true); err != nil && !errors.Is(err, errRefused) {
		return nil, err
	}
	return b.store.setting(ctx, name)
}

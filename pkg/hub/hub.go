// Package hub lets readers follow jobs. It keeps the recent events of live jobs
// on tapes and wakes whoever waits for more. A reader is a cursor: it asks for
// what comes behind it, and is answered from the tape, or from the log if the
// tape does not reach back that far. So replay and live are one path, a slow
// reader holds up nobody, and none has a queue of its own. Who follows many jobs reads
// the tail of the log, which all of them share, or merges what the log has of each.
package hub

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// Log is where the events are that no tape has.
type Log interface {
	// History returns some of the events behind the cursor, oldest first, of about size
	// bytes at most; none: there are no more yet. job.ErrCursor: the cursor names no
	// event of the job.
	History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error)
	// Behind returns some of the job's events behind a place of the log, as History does.
	Behind(ctx context.Context, id job.ID, at job.Cursor, size int) ([]job.Event, error)
	// Covers reports whether a cursor names a place of the log.
	Covers(c job.Cursor) bool
	// Job returns the job as it stands.
	Job(ctx context.Context, id job.ID) (job.Job, error)
}

// Changes knows which jobs have changed.
type Changes interface {
	// Changed returns the jobs that have events at position since of the log or behind
	// it; all false: there are more than most. It is told of an event before the Hub is.
	Changed(s job.Selector, since uint64, most int) (ids []job.ID, all bool)
	// Last returns the position of a job's last event, and whether that is its end.
	Last(id job.ID) (position uint64, over bool)
}

// Options bound a Hub; zeros are the defaults.
type Options struct {
	Memory   int // bytes of all tapes
	Tape     int // bytes of one tape
	Tail     int // bytes of the tail of all jobs
	Readings int // reads of the log at a time
}

const (
	defaultMemory   = 256 << 20 // a hundred thousand small jobs
	defaultTape     = 1 << 20   // minutes of a talkative job; who is further behind reads the log
	defaultTail     = 16 << 20  // the last 50,000 small events: who was away for a moment is answered from memory
	defaultReadings = 8         // a few for each core: a storm of old cursors waits its turn and leaves room for the living
	overhead        = 512       // what a tape takes beside its events
)

// Hub keeps the tapes. Fold must be told of every commit of the log, in the order of each
// job; Follow and Jump in the order of the log.
type Hub struct {
	opt      Options
	log      Log
	changes  Changes
	tail     tail
	reading  singleflight.Group // readers who ask the same share one read
	slots    chan struct{}
	quit     chan struct{} // closed by Close
	quitOnce sync.Once

	mu    sync.Mutex // protects the fields below, and what each live says
	jobs  map[job.ID]*live
	used  list.List // of *live that have events, the least recently used first
	bytes int

	followers int      // readers of many jobs
	merging   int      // of these, how many read the log
	parked    []parked // the oldest first
	sweeping  bool     // it is looked after them
}

// live is a job that has a tape.
type live struct {
	id      job.ID
	tape    *tape.Tape
	current atomic.Bool // the tape has every event since its first, and will be told of the next
	bytes   int         // of the tape, as counted in Hub.bytes
	readers int
	gone    bool          // nobody comes any more
	place   *list.Element // in Hub.used; nil: there is nothing to free
}

// New returns a Hub over log.
func New(log Log, changes Changes, opt Options) *Hub {
	if opt.Memory == 0 {
		opt.Memory = defaultMemory
	}
	if opt.Tape == 0 {
		opt.Tape = defaultTape
	}
	if opt.Tail == 0 {
		opt.Tail = defaultTail
	}
	if opt.Readings == 0 {
		opt.Readings = defaultReadings
	}
	return &Hub{
		opt: opt, log: log, changes: changes, tail: tail{budget: opt.Tail},
		slots: make(chan struct{}, opt.Readings), quit: make(chan struct{}), jobs: map[job.ID]*live{},
	}
}

// Fold puts the events of one commit on the job's tape and wakes its readers.
func (h *Hub) Fold(c *job.Commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(c.Events) == 0 { // loaded at start: read from the log when somebody asks
		if c.Job.Erased {
			h.forget(c.Job.ID)
			h.followErased(c.Job)
		}
		return
	}
	l := h.live(c.Job.ID, c.Before)
	if l.tape.Append(c.Events...) != nil { // it began, or stopped, somewhere else
		l.tape.Jump(c.Before)
		_ = l.tape.Append(c.Events...) // behind c.Before, where they belong
	}
	l.current.Store(true)
	h.touch(l)
	h.evict()
}

// Forget drops the tapes of jobs that are gone. One that is being read goes with its last
// reader.
func (h *Hub) Forget(ids []job.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.forget(id)
	}
}

// forget is Forget of one; h.mu is held.
func (h *Hub) forget(id job.ID) {
	l := h.jobs[id]
	switch {
	case l == nil:
	case l.readers == 0:
		h.drop(l)
	default:
		l.gone = true
	}
}

// live returns the job's tape, a new one that begins at first if it has none. h.mu
// is held.
func (h *Hub) live(id job.ID, first job.Cursor) *live {
	l := h.jobs[id]
	if l == nil {
		l = &live{id: id, tape: tape.New(first, h.opt.Tape)}
		h.jobs[id] = l
	}
	return l
}

// touch counts the tape's bytes again and makes it the last to be evicted. An empty
// one is only a place where readers wait, of whom others keep count: there is nothing
// to free. h.mu is held.
func (h *Hub) touch(l *live) {
	now := l.tape.Size()
	if now > 0 {
		now += overhead
	}
	h.bytes += now - l.bytes
	l.bytes = now
	switch {
	case now == 0:
		h.unlist(l)
	case l.place == nil:
		l.place = h.used.PushBack(l)
	default:
		h.used.MoveToBack(l.place)
	}
}

func (h *Hub) unlist(l *live) {
	if l.place != nil {
		h.used.Remove(l.place)
		l.place = nil
	}
}

// evict frees memory until the tapes fit: the least recently used lose theirs, or
// its events if there are readers. They lose nothing, the log has it all. h.mu is
// held.
func (h *Hub) evict() {
	for h.bytes > h.opt.Memory && h.used.Len() > 0 {
		l := h.used.Front().Value.(*live)
		if l.readers == 0 {
			h.drop(l)
			continue
		}
		l.tape.Jump(l.tape.Head())
		h.touch(l)
	}
}

// drop forgets a tape that nobody reads. h.mu is held.
func (h *Hub) drop(l *live) {
	h.unlist(l)
	delete(h.jobs, l.id)
	h.bytes -= l.bytes
}

// Open returns a reader of the job that begins behind the cursor. job.ErrCursor:
// the cursor names no event of the job; job.ErrNotFound: there is no such job.
func (h *Hub) Open(ctx context.Context, id job.ID, after job.Cursor) (tape.Reader, error) {
	h.mu.Lock()
	l := h.live(id, job.Cursor{})
	l.readers++
	h.touch(l)
	h.mu.Unlock()
	r := &reader{hub: h, live: l, cursor: after, page: firstPage}
	if err := r.begin(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// leave ends one reader of l.
func (h *Hub) leave(l *live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l.readers--
	if l.readers == 0 && (l.gone || l.tape.Size() == 0) { // without events it is only a place to wait at
		h.drop(l)
	}
}

// Close tells all readers, present and future, that the server stops: each gets one
// block of what there is and then job.ErrDraining. Who is far behind, or reads a job
// that never falls silent, would else make a stop take all the time it has.
func (h *Hub) Close() { h.quitOnce.Do(func() { close(h.quit) }) }

// stops reports whether Close was called.
func (h *Hub) stops() bool {
	select {
	case <-h.quit:
		return true
	default:
		return false
	}
}

// Readers returns how many readers are open.
func (h *Hub) Readers() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.jobs {
		n += l.readers
	}
	return n + h.followers
}

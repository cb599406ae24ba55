package tape

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/millstream/millstream/pkg/job"
)

// MaxBlock is the size of the largest block of more than one event that a tape
// returns: what one write deadline has to be enough for, as much as of the one
// event that is the largest there is.
const MaxBlock = 256 << 10

var (
	// ErrOvertaken is the error of a place that the tape keeps no longer: the
	// store has what comes behind it.
	ErrOvertaken = errors.New("tape: place is kept no longer")

	// ErrOrder is the error of an event that is not the next one of the job.
	ErrOrder = errors.New("tape: event is not the next one")
)

// Tape keeps the events of one job from some place on. One goroutine at a time
// may append or jump; any number read meanwhile, and nobody waits for anybody.
type Tape struct {
	now    atomic.Pointer[view]
	budget int
}

// New returns an empty tape whose first event will be the one behind first. It
// keeps at most budget bytes of events, but the newest whatever its size; when
// they are full, the older half goes.
func New(first job.Cursor, budget int) *Tape {
	t := &Tape{budget: budget}
	start := Mark{cursor: first}
	t.now.Store(&view{first: start, head: start})
	return t
}

// Append puts events, which are the next ones of the job, behind the others. An
// error leaves the tape as it was.
func (t *Tape) Append(events ...job.Event) error {
	old := t.now.Load()
	if err := old.follow(events); err != nil || len(events) == 0 {
		return err
	}
	v := old
	if len(v.bytes) > t.budget/2 && len(v.bytes)+room(events) > t.budget {
		v = v.trim(t.budget) // before it grows, so that a full array is never copied whole
	}
	v = v.extend(events)
	if len(v.bytes) > t.budget {
		v = v.trim(t.budget)
	}
	t.now.Store(v)
	old.wake()
	return nil
}

// Jump drops all events and lets the tape go on behind first, which may lie
// anywhere. Every mark is overtaken; Seek finds the way back for who stands at
// first. A tape that has ended stays ended if it jumps to its head.
func (t *Tape) Jump(first job.Cursor) {
	old := t.now.Load()
	start := Mark{offset: old.head.offset + 1, cursor: first}
	t.now.Store(&view{first: start, head: start, end: old.end && first == old.head.cursor})
	old.wake()
}

// Seek returns the place behind the event that the cursor names. It fails with
// ErrOvertaken if the tape does not reach back to it, and with job.ErrCursor if
// the job has, or had so far, no such event.
func (t *Tape) Seek(after job.Cursor) (Mark, error) { return t.now.Load().seek(after) }

// Read returns the events behind m and the place behind them: all there are, or
// as many as fit in MaxBlock, or one that is larger. At the head the block is
// empty; at the end of a job that is over the error is io.EOF. It copies nothing
// and searches for nothing but the end of a block that is full.
func (t *Tape) Read(m Mark) (Block, Mark, error) {
	v := t.now.Load()
	switch {
	case m.offset < v.first.offset:
		return Block{}, m, ErrOvertaken
	case m.offset < v.head.offset:
		b, next := v.block(m)
		return b, next, nil
	case v.end:
		return Block{}, m, io.EOF
	}
	return Block{}, m, nil
}

// Changed returns a channel that is closed at the next append or jump. Who asks
// for it before a look at the tape and waits for it afterwards misses nothing.
func (t *Tape) Changed() <-chan struct{} { return t.now.Load().wait() }

// Head returns the id of the newest event, or the place where the tape begins.
func (t *Tape) Head() job.Cursor { return t.now.Load().head.cursor }

// End reports whether the newest event is the last of the job.
func (t *Tape) End() bool { return t.now.Load().end }

// Size returns the bytes of memory that the tape takes for its events.
func (t *Tape) Size() int {
	v := t.now.Load()
	return cap(v.bytes) + cap(v.marks)*markSize
}

// follow fails unless the events are the next ones of the job.
func (v *view) follow(events []job.Event) error {
	seq, end := v.head.cursor.Seq, v.end
	for i := range events {
		if events[i].Seq != seq+1 || end {
			return fmt.Errorf("%w: seq %d after %d", ErrOrder, events[i].Seq, seq)
		}
		seq, end = seq+1, events[i].Type.Terminal()
	}
	return nil
}

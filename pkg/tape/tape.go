package tape

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/millstream/millstream/pkg/job"
)

// MaxBlock is the size of the largest block of more than one event: what a slow
// reader has in flight, and what one write deadline has to be enough for.
const MaxBlock = 256 << 10

var (
	// ErrOvertaken is the error of a place that the tape keeps no longer: the
	// store has what comes behind it.
	ErrOvertaken = errors.New("tape: the place is kept no longer")

	// ErrOrder is the error of an event that is not the next one of the job.
	ErrOrder = errors.New("tape: event is not the next one")
)

// Tape keeps the events of one job from some place on. One goroutine appends at
// a time; any number read meanwhile, and nobody waits for anybody.
type Tape struct {
	now    atomic.Pointer[view]
	budget int
}

// New returns an empty tape whose first event will be the one behind first. When
// its events take more than budget bytes, it drops the older ones.
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
	v := old.extend(events)
	if len(v.bytes) > t.budget {
		v = v.trim(int64(t.budget) / 2)
	}
	t.now.Store(v)
	old.wake()
	return nil
}

// follow fails unless the events are the next ones of the job.
func (v *view) follow(events []job.Event) error {
	seq, end := v.head.cursor.Seq, v.end
	for i := range events {
		e := &events[i]
		if seq++; end || e.Seq != seq {
			return fmt.Errorf("%w: seq %d after %d", ErrOrder, e.Seq, seq-1)
		}
		end = e.Type.Terminal()
	}
	return nil
}

// Seek returns the place behind the event that the cursor names. It fails with
// ErrOvertaken if the tape does not reach back to it, and with job.ErrCursor if
// the job has, or had so far, no such event.
func (t *Tape) Seek(after job.Cursor) (Mark, error) { return t.now.Load().seek(after) }

// Read returns the events behind m and the place behind them: all there are, or
// the first MaxBlock bytes, or one event that is larger. At the head the block is
// empty; at the end of a job that is over the error is io.EOF.
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

// Grown returns a channel that is closed once Read has something to say at m.
func (t *Tape) Grown(m Mark) <-chan struct{} {
	v := t.now.Load()
	if m.offset < v.head.offset || v.end {
		return closed
	}
	return v.wait()
}

// Head returns the id of the newest event.
func (t *Tape) Head() job.Cursor { return t.now.Load().head.cursor }

// End reports whether the newest event is the last of the job.
func (t *Tape) End() bool { return t.now.Load().end }

// Size returns the bytes of memory that the tape keeps.
func (t *Tape) Size() int {
	v := t.now.Load()
	return cap(v.bytes) + cap(v.marks)*markSize
}

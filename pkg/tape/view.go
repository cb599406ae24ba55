package tape

import (
	"iter"
	"slices"
	"sort"
	"sync/atomic"
	"unsafe"

	"github.com/millstream/millstream/pkg/job"
)

// Mark is a place in a tape between two events: where a reader stands. It finds
// its bytes without a search and means nothing on another tape.
type Mark struct {
	offset int64 // among all the bytes the tape ever had
	cursor job.Cursor
}

// Cursor returns the id of the event before the mark.
func (m Mark) Cursor() job.Cursor { return m.cursor }

const (
	markEvery = 4 << 10 // bytes: a search parses a few dozen events, and the marks take less than 1 %
	markSize  = int(unsafe.Sizeof(Mark{}))
)

// view is a tape between two appends. It never changes, so that reading it takes
// no lock: what the next view has more lies behind its slices, in the same arrays
// or in others.
type view struct {
	bytes []byte // frames
	first Mark   // before them
	head  Mark   // behind them
	marks []Mark // some between them, markEvery bytes or one event apart
	end   bool   // the last event of the job is there

	next atomic.Pointer[chan struct{}] // closed when there is a newer view; nil: nobody waits
}

// extend returns the view with events behind it.
func (v *view) extend(events []job.Event) *view {
	n := &view{bytes: slices.Grow(v.bytes, room(events)), first: v.first, head: v.head, marks: v.marks}
	marked := v.mark(len(v.marks)).offset
	for i := range events {
		n.bytes = AppendFrame(n.bytes, &events[i])
		n.head = Mark{offset: n.first.offset + int64(len(n.bytes)), cursor: events[i].Cursor()}
		if n.head.offset-marked >= markEvery {
			n.marks = append(n.marks, n.head)
			marked = n.head.offset
		}
	}
	n.end = events[len(events)-1].Type.Terminal()
	return n
}

// trim returns the view with half a budget of its newest events, but with the
// newest in any case, in an array that has room for the other half. The old array
// goes when the last reader has written its slice of it.
func (v *view) trim(budget int) *view {
	from := v.head.offset - int64(max(budget/2, 1)) // before the head, or the newest would go too
	first := v.before(from)
	for next := range v.behind(first) {
		if first.offset >= from || next == v.head {
			break
		}
		first = next
	}
	kept := v.bytes[first.offset-v.first.offset:]
	return &view{
		bytes: append(make([]byte, 0, max(budget, len(kept))), kept...),
		first: first,
		head:  v.head,
		marks: slices.Clone(v.marks[v.upTo(first.offset):]),
		end:   v.end,
	}
}

// block returns the events behind m, which has some, and the place behind them.
func (v *view) block(m Mark) (Block, Mark) {
	last := v.head
	if limit := m.offset + MaxBlock; last.offset > limit {
		last = v.before(limit)
		for next := range v.behind(last) {
			if next.offset > limit && last != m {
				break
			}
			last = next
		}
	}
	from, to := m.offset-v.first.offset, last.offset-v.first.offset
	return Block{Bytes: v.bytes[from:to:to], Last: last.cursor, End: v.end && last == v.head}, last
}

// seek returns the mark behind the event that the cursor names.
func (v *view) seek(after job.Cursor) (Mark, error) {
	m := v.head
	switch {
	case after.Seq < v.first.cursor.Seq:
		return Mark{}, ErrOvertaken
	case after.Seq < m.cursor.Seq:
		m = v.event(after.Seq)
	}
	if m.cursor != after && !(m.cursor.Start() && after.Start()) {
		return Mark{}, job.ErrCursor
	}
	return m, nil
}

// event returns the mark behind the event with the given seq, which is not before
// the first mark.
func (v *view) event(seq uint64) Mark {
	m := v.mark(sort.Search(len(v.marks), func(i int) bool { return v.marks[i].cursor.Seq > seq }))
	for next := range v.behind(m) {
		if next.cursor.Seq > seq {
			break
		}
		m = next
	}
	return m
}

// behind returns the marks behind m, one for each event.
func (v *view) behind(m Mark) iter.Seq[Mark] {
	return func(yield func(Mark) bool) {
		for m.offset < v.head.offset {
			f, n := cut(v.bytes[m.offset-v.first.offset:])
			m.offset += int64(n)
			m.cursor, _ = job.ParseCursor(f.ID) // ours
			if !yield(m) {
				return
			}
		}
	}
}

// before returns the last mark kept that is not behind offset.
func (v *view) before(offset int64) Mark { return v.mark(v.upTo(offset)) }

// upTo returns how many of v.marks are not behind offset.
func (v *view) upTo(offset int64) int {
	return sort.Search(len(v.marks), func(i int) bool { return v.marks[i].offset > offset })
}

// mark returns the n-th mark, counting from the first of all.
func (v *view) mark(n int) Mark {
	if n == 0 {
		return v.first
	}
	return v.marks[n-1]
}

// closed is the channel of those who need not wait.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// wait returns a channel that is closed when there is a newer view.
func (v *view) wait() <-chan struct{} {
	if v.next.Load() == nil {
		c := make(chan struct{})
		v.next.CompareAndSwap(nil, &c)
	}
	return *v.next.Load()
}

// wake closes that channel. Who asks for it from now on gets one that is closed.
func (v *view) wake() {
	if c := v.next.Swap(&closed); c != nil {
		close(*c)
	}
}

package tape

import (
	"bytes"
	"slices"
	"sort"
	"sync/atomic"
	"unsafe"

	"github.com/millstream/millstream/pkg/job"
)

// Mark is a place in a tape between two events: where a reader stands. It finds
// its bytes without a search and means nothing on another tape.
type Mark struct {
	offset int64 // in all the bytes the tape ever had
	cursor job.Cursor
}

// Cursor returns the id of the event before the mark.
func (m Mark) Cursor() job.Cursor { return m.cursor }

const (
	markEvery = 4 << 10 // bytes: a search reads no more of the tape, and the marks take less than 1 % of it
	markSize  = int(unsafe.Sizeof(Mark{}))
)

// view is a tape between two appends. It never changes, so that to read it takes
// no lock: the next view's bytes lie behind its own, or in another array.
type view struct {
	bytes []byte // frames
	first Mark   // before them
	head  Mark   // behind them
	marks []Mark // between them, one after each markEvery bytes
	end   bool   // the last event of the job is there

	next atomic.Pointer[chan struct{}] // closed when there is a newer view; nil: nobody waits
}

// extend returns the view with the events behind it. They are written behind the
// slices that readers of v hold, where there is room.
func (v *view) extend(events []job.Event) *view {
	n := &view{bytes: slices.Grow(v.bytes, room(events)), first: v.first, head: v.head, marks: v.marks}
	marked := n.first.offset
	if len(n.marks) > 0 {
		marked = n.marks[len(n.marks)-1].offset
	}
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

// trim returns the view with no more than keep bytes of its newest events, but
// with the newest in any case, in an array of its own: the old one goes when the
// last reader has written its slice of it.
func (v *view) trim(keep int64) *view {
	from := v.head.offset - keep
	start := v.walk(v.before(from), func(at, next Mark) bool { return at.offset < from && next.offset < v.head.offset })
	i, _ := slices.BinarySearchFunc(v.marks, start.offset+1, byOffset)
	return &view{
		bytes: bytes.Clone(v.bytes[start.offset-v.first.offset:]),
		first: start, head: v.head, end: v.end,
		marks: slices.Clone(v.marks[i:]),
	}
}

// block returns the events behind m, which has some, and the place behind them.
func (v *view) block(m Mark) (Block, Mark) {
	next := v.head
	if limit := m.offset + MaxBlock; next.offset > limit {
		next = v.before(limit)
		if next.offset < m.offset {
			next = m
		}
		next = v.walk(next, func(at, next Mark) bool { return next.offset <= limit || at == m })
	}
	from, to := m.offset-v.first.offset, next.offset-v.first.offset
	return Block{Bytes: v.bytes[from:to:to], Last: next.cursor, End: v.end && next == v.head}, next
}

// seek returns the mark behind the event that the cursor names.
func (v *view) seek(after job.Cursor) (Mark, error) {
	switch {
	case after.Seq < v.first.cursor.Seq:
		return Mark{}, ErrOvertaken
	case after.Seq > v.head.cursor.Seq:
		return Mark{}, job.ErrCursor
	}
	m := v.head
	if after.Seq < m.cursor.Seq {
		i := sort.Search(len(v.marks), func(i int) bool { return v.marks[i].cursor.Seq > after.Seq })
		m = v.walk(v.mark(i), func(_, next Mark) bool { return next.cursor.Seq <= after.Seq })
	}
	if m.cursor != after && !(m.cursor.Start() && after.Start()) {
		return Mark{}, job.ErrCursor
	}
	return m, nil
}

func byOffset(m Mark, offset int64) int { return int(m.offset - offset) }

// before returns the last mark that is not behind offset.
func (v *view) before(offset int64) Mark {
	i, _ := slices.BinarySearchFunc(v.marks, offset+1, byOffset)
	return v.mark(i)
}

// mark returns the mark before the i-th, counting from the first of all.
func (v *view) mark(i int) Mark {
	if i == 0 {
		return v.first
	}
	return v.marks[i-1]
}

// walk goes from mark to mark, event by event, as long as more says so.
func (v *view) walk(m Mark, more func(at, next Mark) bool) Mark {
	for m.offset < v.head.offset {
		f, n := cut(v.bytes[m.offset-v.first.offset:])
		next := Mark{offset: m.offset + int64(n), cursor: job.Cursor{Seq: m.cursor.Seq + 1}}
		if !more(m, next) {
			break
		}
		next.cursor, _ = job.ParseCursor(f.ID)
		m = next
	}
	return m
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

// wake closes that channel. Who asks for it afterwards gets one that is closed.
func (v *view) wake() {
	if c := v.next.Swap(&closed); c != nil {
		close(*c)
	}
}

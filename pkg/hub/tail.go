package hub

import (
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// tail has the recent events of all jobs in the order of the log, for those who read many:
// one for all of them. They are places in it, as the readers of one job are on its tape, and
// who is further back reads the log. The events are not encoded before somebody takes them.
type tail struct {
	budget int // bytes

	mu       sync.Mutex // protects the fields below
	segments []*segment // all but the last are full
	base     uint64     // number of the first item
	first    job.Cursor // behind which they are
	last     job.Cursor // up to here there are no more
	size     int
	next     chan struct{} // closed when there is more; nil: nobody waits

	erased sync.Map // job.ID of those whose stream.erased is on it: nothing else of them is shown
}

// segmentSize is how many items are allocated, and dropped, at once: some 80 KiB.
const segmentSize = 512

// segment is a run of items. Those that are used are never written again, so that they are
// read without a lock.
type segment struct {
	items [segmentSize]item
	used  int
	size  int
}

// item is an event, or a stream.erased where it happened.
type item struct {
	event  job.Event
	labels *job.Labels
}

// itemSize is about what an item takes beside its data, with its share of the labels.
const itemSize = 256

// Follow puts the events of the next commit on the tail of all jobs. Of a job that is erased
// nothing is shown but that it is.
func (h *Hub) Follow(c *job.Commit) {
	labels := c.Labels
	if labels == nil {
		own := c.Job.Labels()
		labels = &own
	}
	t := &h.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.Erases:
		t.addErased(labels, c.Job.Cursor)
	case !c.Job.Erased:
		for _, e := range c.Events {
			t.add(item{e, labels})
		}
	}
	t.last = c.Job.Cursor
	t.shrink()
}

// followErased shows that a job was erased that is over. The log has no place for that: it
// stands behind the last message, as if that had one record more, so that who was told is not
// told again.
func (h *Hub) followErased(j *job.Job) {
	labels := j.Labels()
	t := &h.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last.Seq++
	t.addErased(&labels, t.last)
	t.shrink()
}

// erased returns the event that tells who follows many jobs that one is gone.
func erased(l *job.Labels, at job.Cursor) job.Event {
	return job.Event{Job: l.ID, Place: at.Place, Record: job.Record{
		Seq: at.Seq, Type: job.StreamErased, Time: time.Now(), Data: job.MustData(map[string]job.ID{"job": l.ID}),
	}}
}

// Jump empties the tail and lets it begin anew behind the cursor: what is before that is
// read from the log.
func (h *Hub) Jump(to job.Cursor) {
	t := &h.tail
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = t.end() + 1 // who was at its end has missed something
	t.segments, t.size, t.first, t.last = nil, 0, to, to
	t.erased.Clear()
	t.wake()
}

// addErased shows that a job is erased, and hides what the tail has of it. t.mu is held, as in
// what follows.
func (t *tail) addErased(l *job.Labels, at job.Cursor) {
	t.erased.Store(l.ID, nil)
	t.add(item{erased(l, at), l})
}

// hides reports whether an event is not shown any more.
func (t *tail) hides(e *job.Event) bool {
	_, gone := t.erased.Load(e.Job)
	return gone && e.Type != job.StreamErased
}

// add appends an item.
func (t *tail) add(i item) {
	n := len(t.segments)
	if n == 0 || t.segments[n-1].used == segmentSize {
		t.segments = append(t.segments, new(segment))
		n++
	}
	s := t.segments[n-1]
	s.items[s.used] = i
	s.used++
	size := itemSize + len(i.event.Data)
	s.size += size
	t.size += size
}

// shrink drops what is beyond the budget, and wakes who waits.
func (t *tail) shrink() {
	for t.size > t.budget && len(t.segments) > 1 {
		t.drop()
	}
	t.wake()
}

// drop forgets the oldest segment, which is full.
func (t *tail) drop() {
	s := t.segments[0]
	t.first = s.items[segmentSize-1].event.Cursor()
	t.segments = slices.Delete(t.segments, 0, 1)
	t.base += segmentSize
	t.size -= s.size
	for i := range s.items {
		if s.items[i].event.Type == job.StreamErased {
			t.erased.Delete(s.items[i].labels.ID)
		}
	}
}

// wake tells those who wait.
func (t *tail) wake() {
	if t.next != nil {
		close(t.next)
		t.next = nil
	}
}

// end returns the number of the next item.
func (t *tail) end() uint64 {
	n := len(t.segments)
	if n == 0 {
		return t.base
	}
	return t.base + uint64(n-1)*segmentSize + uint64(t.segments[n-1].used)
}

func (t *tail) at(n uint64) *item {
	n -= t.base
	return &t.segments[n/segmentSize].items[n%segmentSize]
}

// changed returns a channel that is closed when there is more.
func (t *tail) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next == nil {
		t.next = make(chan struct{})
	}
	return t.next
}

// head returns the place up to which the tail has all.
func (t *tail) head() job.Cursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// seek returns the number of the first item behind the cursor; ok is false if the tail does
// not reach back so far.
func (t *tail) seek(at job.Cursor) (n uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first.Behind(at) {
		return 0, false
	}
	n = t.base + uint64(sort.Search(int(t.end()-t.base), func(i int) bool {
		return t.at(t.base + uint64(i)).event.Cursor().Behind(at)
	}))
	return n, true
}

// maxLook is how many segments are looked through before it is looked whether the reader
// is still there.
const maxLook = 8

// read calls take with the items from number n on, until it returns false. It returns the
// number behind the last of them, the place up to which there was nothing else, and whether
// there are more; ok is false if item n is gone.
func (t *tail) read(n uint64, take func(*item) bool) (next uint64, at job.Cursor, more, ok bool) {
	t.mu.Lock()
	if n < t.base {
		t.mu.Unlock()
		return n, at, false, false
	}
	from, end := n-t.base, t.end()-t.base
	segments := slices.Clone(t.segments[min(int(from/segmentSize), len(t.segments)):min(int(from/segmentSize)+maxLook, len(t.segments))])
	at = t.last
	t.mu.Unlock()
	limit := min(end, (from/segmentSize+uint64(len(segments)))*segmentSize)
	for i := from; i < limit; i++ {
		it := &segments[i/segmentSize-from/segmentSize].items[i%segmentSize]
		if n++; !take(it) || i+1 == limit && limit < end {
			return n, it.event.Cursor(), i+1 < end, true
		}
	}
	return n, at, false, true
}

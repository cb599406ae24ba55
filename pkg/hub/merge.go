package hub

import (
	"container/heap"
	"context"
	"errors"
	"maps"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// merge reads what many jobs have in the log between a follower's cursor and a place, in
// the order of the log: always of the job whose next event comes first.
type merge struct {
	until   job.Cursor
	room    int // bytes of events that are read ahead, beside a page
	page    int // bytes of a job that are read at once
	sources sources
	held    int // bytes of events that were read
}

// source is what is yet to be read of a job.
type source struct {
	id     job.ID
	at     job.Cursor  // behind which it is
	next   job.Cursor  // where its next event is, or somewhere before
	events []job.Event // that were read; none: it has to be looked
	over   bool        // there is nothing behind them
}

const (
	// maxMerge is how many jobs are read for one follower: a second or two. Who has
	// missed more starts over from what they are now.
	maxMerge = 10_000
	// mergeRoom bounds the events that are read ahead for one follower, beside one page; of
	// many they have mergesRoom together, as much as the tapes, and leastRoom each: who reads
	// slowly keeps its own for long, and a restart of a thousand dashboards is one of a thousand
	// merges.
	mergeRoom  = 8 << 20
	mergesRoom = 256 << 20
	leastRoom  = 128 << 10
	// mergePage is how much of a job is read at once, and leastPage if there are so many jobs
	// that their pages would have no room: what is let go of is read again.
	mergePage = 16 << 10
	leastPage = 1 << 10
	// mergeTime is how long is read before the reader is shown that we live.
	mergeTime = 5 * time.Second
)

// beginMerge finds the jobs that have changed behind the cursor.
func (f *follower) beginMerge() error {
	until := f.hub.tail.head()
	ids, all := f.hub.changes.Changed(f.selector(), f.cursor.Position, maxMerge)
	if !all {
		p := job.Problemf("rate-limited", "More than %d jobs have changed since.", maxMerge)
		p.RetryAfter = time.Second
		return p
	}
	ids = f.withUnread(ids)
	room := f.hub.merges(1)
	f.merge = &merge{until: until, room: room, page: min(mergePage, max(leastPage, room/(len(ids)+1)))}
	for _, id := range ids {
		f.merge.sources = append(f.merge.sources, &source{id: id, at: f.cursor, next: f.cursor})
	}
	return nil // sources of the same place are a heap
}

// merges counts more merges, or fewer, and returns the room that one has then.
func (h *Hub) merges(more int) (room int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.merging += more
	return max(leastRoom, min(mergeRoom, mergesRoom/max(1, h.merging)))
}

// withUnread adds the jobs whose end is yet to be read, and that have not changed as far as is
// known: it may be that they are no more.
func (f *follower) withUnread(ids []job.ID) []job.ID {
	if f.unread == 0 {
		return ids
	}
	unread := maps.Clone(f.named)
	for _, id := range ids {
		unread[id] = false
	}
	for id, is := range unread {
		if is {
			ids = append(ids, id)
		}
	}
	return ids
}

// lookInLog returns the next events of the merge.
func (f *follower) lookInLog(ctx context.Context) (b tape.Block, more bool, err error) {
	m, began := f.merge, time.Now()
	var frames []byte
	n := 0
	for len(m.sources) > 0 && f.room(n, len(frames)) && !f.done() {
		if time.Since(began) > mergeTime {
			return f.block(frames), true, nil
		}
		s := m.sources[0]
		if len(s.events) == 0 {
			if err := f.fetch(ctx, s); err != nil {
				if len(frames) > 0 {
					break // it is told when there is nothing else to tell
				}
				return b, false, err
			}
			m.settle()
			continue
		}
		frames = f.take(m, s, frames, &n)
	}
	if len(m.sources) == 0 {
		f.hub.merges(-1)
		f.merge, f.cursor, f.placed = nil, m.until, false
	}
	return f.block(frames), f.merge == nil && len(frames) == 0, nil
}

// take appends the events of the first source that come before any of the others, and counts
// them.
func (f *follower) take(m *merge, s *source, frames []byte, n *int) []byte {
	limit := m.until
	for _, i := range []int{1, 2} { // one of these is the next
		if i < len(m.sources) && limit.Behind(m.sources[i].next) {
			limit = m.sources[i].next
		}
	}
	for len(s.events) > 0 && !s.events[0].Cursor().Behind(limit) && f.room(*n, len(frames)) {
		e := &s.events[0]
		if !f.hub.tail.hides(e) { // it may have been erased since it was read
			frames = tape.AppendFrame(frames, e)
			f.read(e.Job, e.Type)
			*n++
		}
		f.cursor, s.at = e.Cursor(), e.Cursor()
		m.held -= itemSize + len(e.Data)
		s.events = s.events[1:]
	}
	m.settle()
	return frames
}

// settle puts the first source where it belongs now, or drops it.
func (m *merge) settle() {
	s := m.sources[0]
	s.next = s.at
	if len(s.events) > 0 {
		s.next = s.events[0].Cursor()
	}
	if s.next.Behind(m.until) || s.id == "" {
		m.letGo(s)
		heap.Pop(&m.sources)
		return
	}
	heap.Fix(&m.sources, 0)
	if m.held > m.room && m.sources[0] != s && !s.over {
		m.letGo(s) // it is read again when its turn comes
	}
}

// letGo forgets what was read of a source.
func (m *merge) letGo(s *source) {
	for i := range s.events {
		m.held -= itemSize + len(s.events[i].Data)
	}
	s.events = nil
}

// fetch reads the next events of a source. One that has none is nobody's any more.
func (f *follower) fetch(ctx context.Context, s *source) error {
	var events []job.Event
	var err error
	if !s.over {
		events, err = f.hub.behind(ctx, s, f.merge.page)
	}
	switch {
	case errors.Is(err, job.ErrNotFound) && !f.named[s.id]: // it has gone since: the tail will tell
	case errors.Is(err, job.ErrNotFound), errors.Is(err, job.ErrDamaged):
		events, s.over = []job.Event{erased(&job.Labels{ID: s.id}, s.at)}, true
	case err != nil:
		return err
	}
	for i := range events {
		f.merge.held += itemSize + len(events[i].Data)
	}
	if s.events = events; len(events) == 0 {
		s.id = ""
	}
	return nil
}

// behind reads events of the log, beside no more others than Options.Readings.
func (h *Hub) behind(ctx context.Context, s *source, page int) ([]job.Event, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	return h.log.Behind(ctx, s.id, s.at, page)
}

// sources are a heap: the first is the one whose next event comes first.
type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Less(i, j int) bool { return s[j].next.Behind(s[i].next) }
func (s sources) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *sources) Push(x any)        { *s = append(*s, x.(*source)) }
func (s *sources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

package webhook

import (
	"container/heap"
	"context"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// item is a delivery in line: no more than it takes to find it, as there may be many.
type item struct {
	job   [16]byte   // see job.IDOf
	event job.Cursor // zero: what there is of a job that is followed
	round int        // of the delivery: if that is in another one by now, this place in line is void
	due   int64      // Unix milliseconds: not before
	since int64      // when its tries began
}

func (i *item) id() job.ID { return job.IDOf(i.job) }

// line are the deliveries to one host, the next first.
type line []item

func (l line) Len() int           { return len(l) }
func (l line) Less(i, j int) bool { return l[i].due < l[j].due }
func (l line) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *line) Push(x any)        { *l = append(*l, x.(item)) }
func (l *line) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}

const (
	// maxLine and maxWaiting are how many deliveries may wait for one host, and for all of
	// them: three days at one in a second. Each takes 72 bytes of memory.
	maxLine    = 250_000
	maxWaiting = 1_000_000
)

// Due takes a delivery that is pending; see broker.Options.
func (s *Sender) Due(d *job.Delivery) (taken bool) {
	id, ok := d.Job.Bytes()
	event, err := job.ParseCursor(d.ID)
	if !ok || err != nil {
		return false // ours: it cannot be
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := hostOf(d.URL)
	if s.full(name) {
		return false
	}
	due := min(d.NextAt.UnixMilli(), time.Now().Add(longestWait).UnixMilli()) // a clock may have been set back
	s.put(name, item{id, event, d.Round, max(0, due), d.Since.UnixMilli()})
	return true
}

// full reports whether no more can wait for a host. s.mu is held.
func (s *Sender) full(name string) bool {
	h := s.hosts[name]
	return s.waiting >= maxWaiting || h != nil && len(h.line) >= maxLine
}

// put puts a delivery in line. s.mu is held.
func (s *Sender) put(name string, it item) {
	h := s.hosts[name]
	if h == nil {
		h = &host{name: name}
		s.hosts[name] = h
	}
	heap.Push(&h.line, it)
	s.waiting++
	s.place(h)
}

// place puts a host where it belongs by what has become of it. s.mu is held.
func (s *Sender) place(h *host) {
	if h.lane != nil {
		h.lane.turns.Delete(turn{h.at, h})
		h.lane = nil
	}
	at, ok := h.next()
	switch {
	case ok:
		h.at, h.lane = at, s.quick
		if h.slow {
			h.lane = s.slow
		}
		h.lane.turns.Set(turn{at, h})
	case h.idle():
		delete(s.hosts, h.name)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// longest is how long is waited at a time: timers know nothing of a clock that was set, or
// of a machine that was asleep.
const longest = time.Minute

// claim returns the delivery whose turn it is, which nobody else then gets, or how long it
// is until there may be one.
func (s *Sender) claim(now time.Time) (*claimed, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, ok := s.quick.first()
	if t, slow := s.slow.first(); slow && (!ok || sooner(t, first)) {
		first, ok = t, true
	}
	switch {
	case !ok:
		return nil, longest
	case first.at > now.UnixMilli():
		return nil, min(longest, time.UnixMilli(first.at).Sub(now))
	}
	h := first.host
	c := &claimed{heap.Pop(&h.line).(item), h, h.lane, 0, h.shut > now.UnixMilli()}
	h.busy++
	c.lane.busy++
	s.waiting--
	s.place(h)
	return c, 0
}

// claimed is a delivery whose turn it is.
type claimed struct {
	item
	host *host
	lane *lane         // whose place it takes; nil: of none any more
	took time.Duration // to send it
	late bool          // it has waited for too long for a host that is down
}

// release ends a claim: the host has answered, or not, or was not asked, and the delivery
// goes back in line if it is pending.
func (s *Sender) release(c *claimed, o outcome, again time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLane(c)
	c.host.busy--
	c.host.note(o, time.Now(), c.took)
	if !again.IsZero() {
		c.due = again.UnixMilli()
		heap.Push(&c.host.line, c.item)
		s.waiting++
	}
	s.place(c.host)
}

// begin returns the context of a try, and what ends it. Whoever erases the job of the
// delivery does so too, see cut: what is read from the store after begin is not sent then.
func (s *Sender) begin(ctx context.Context, c *claimed) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under[c] = cancel
	return ctx, func() {
		cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.under, c)
	}
}

// cut ends what is under way of a job. s.mu is held.
func (s *Sender) cut(id job.ID) {
	for c, cancel := range s.under {
		if c.id() == id {
			cancel()
		}
	}
}

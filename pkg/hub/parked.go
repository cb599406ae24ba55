package hub

import (
	"fmt"
	"time"
)

// A merge looks at every job that has changed before it has its first event. Who reads page by
// page would have that done for each page; so what a reader leaves is kept for a while, for
// the one that comes back for the same from where it was left.

const (
	// maxParked is how many merges wait for who comes back: as many as are read at a time,
	// several times over. The oldest goes for a new one.
	maxParked = 32
	// parkedTime is how long one waits: longer than who reads page by page thinks.
	parkedTime = 30 * time.Second
	// parkedRoom bounds the events that one holds meanwhile.
	parkedRoom = 1 << 20
)

// parked is what is left of a merge.
type parked struct {
	key   string
	merge *merge
	since time.Time
}

// key names what the follower would read next.
func (f *follower) key() string { return fmt.Sprint(f.cursor, f.selector()) }

// leave parks the merge that the follower is at, if there is one.
func (f *follower) leave() {
	if f.merge == nil {
		return
	}
	f.hub.merges(-1)
	if f.hub.stops() {
		return
	}
	for _, s := range f.merge.sources {
		if f.merge.held > parkedRoom && !s.over {
			f.merge.letGo(s)
		}
	}
	p := parked{f.key(), f.merge, time.Now()}
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.unpark(p.key)
	if len(f.hub.parked) == maxParked {
		f.hub.parked = f.hub.parked[1:]
	}
	f.hub.parked = append(f.hub.parked, p)
	f.hub.sweepLater()
}

// sweepLater has those forgotten that have waited too long, though nobody may come any more.
// h.mu is held.
func (h *Hub) sweepLater() {
	if h.sweeping {
		return
	}
	h.sweeping = true
	time.AfterFunc(parkedTime+time.Second, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.unpark("")
		if h.sweeping = false; len(h.parked) > 0 {
			h.sweepLater()
		}
	})
}

// takeUp takes up the merge that was left where the follower begins, and reports whether there
// was one.
func (f *follower) takeUp() bool {
	key := f.key()
	f.hub.mu.Lock()
	f.merge = f.hub.unpark(key)
	f.hub.mu.Unlock()
	if f.merge != nil {
		f.merge.room = f.hub.merges(1)
	}
	return f.merge != nil
}

// unpark returns the merge with the key and forgets it, and those that have waited too
// long; nil: there is none. h.mu is held.
func (h *Hub) unpark(key string) (found *merge) {
	kept := h.parked[:0:0]
	for _, p := range h.parked {
		switch {
		case time.Since(p.since) > parkedTime:
		case p.key == key:
			found = p.merge
		default:
			kept = append(kept, p)
		}
	}
	h.parked = kept
	return found
}

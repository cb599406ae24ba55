package webhook

import "github.com/tidwall/btree"

// lane has a share of the tries that are under way at once. Receivers that take their time
// have one for themselves: however many there are, they take up no more.
type lane struct {
	turns *btree.BTreeG[turn] // the hosts that have something to be sent and may be asked, in order
	busy  int                 // tries under way
}

const (
	// maxBusy is how many tries are under way at once: each may take a connection, and what
	// goes with it, for as long as tryTime.
	maxBusy = 2*laneBusy + asideBusy
	// laneBusy is how many of them there are in a lane.
	laneBusy = 128
	// asideBusy is how many there are that have left the quick lane: enough for thirty in each
	// second that hang for all of tryTime.
	asideBusy = 3 * laneBusy
)

func newLane() *lane {
	return &lane{turns: btree.NewBTreeGOptions(sooner, btree.Options{NoLocks: true})}
}

// first returns whose turn is next; ok is false if nobody's is.
func (l *lane) first() (t turn, ok bool) {
	if l.busy >= laneBusy {
		return t, false
	}
	return l.turns.Min()
}

// turn is when a host may be asked next.
type turn struct {
	at   int64
	host *host
}

func sooner(a, b turn) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return a.host.name < b.host.name
}

// stepAside takes a try that is not over after slowTime out of the quick lane: what hangs
// holds its place there no longer than it takes to find out. Its host goes to the slow one.
func (s *Sender) stepAside(c *claimed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.lane != s.quick || s.aside >= asideBusy {
		return
	}
	c.lane.busy--
	c.lane = nil
	s.aside++
	c.host.slow = true
	s.place(c.host)
}

// leaveLane ends the place of a try in its lane, or beside it. s.mu is held.
func (s *Sender) leaveLane(c *claimed) {
	if c.lane == nil {
		s.aside--
		return
	}
	c.lane.busy--
	c.lane = nil
}

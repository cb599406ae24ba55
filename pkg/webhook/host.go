package webhook

import (
	"math/rand/v2"
	"net/url"
	"strings"
	"time"
)

// host is a receiver, or several at one address: those behind it share its fate.
type host struct {
	name  string
	line  line
	busy  int   // tries under way
	known bool  // one of them has ended
	slow  bool  // the last one took slowTime or more
	fails int   // tries without an answer that it lives, since the last one with
	shut  int64 // Unix milliseconds: it is not asked before
	at    int64 // its turn
	lane  *lane // where it waits for that; see Sender.place
}

const (
	// hostBusy is how many tries to one host are under way at once: enough for a burst, and
	// no flood for a small receiver.
	hostBusy = 8
	// slowTime is what a try takes to a host that is slow: a receiver that takes note of what
	// it is sent, and does its work later, takes a tenth of it.
	slowTime = 2 * time.Second
	// shutAfter is how many tries in a row fail until a host is taken for down, and only
	// asked now and then, by one try at a time.
	shutAfter = 5
	// firstShut and longestShut are how long it is let alone then: twice as long each time.
	firstShut   = 10 * time.Second
	longestShut = 5 * time.Minute
)

// hostOf returns the name of the host of a URL: its scheme, name and port.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// next returns when the host may be asked next; ok is false if there is nothing to be sent,
// or enough under way.
func (h *host) next() (at int64, ok bool) {
	most := hostBusy
	if h.fails > 0 || !h.known { // one that is down, or may be, costs one try at a time
		most = 1
	}
	if len(h.line) == 0 || h.busy >= most {
		return 0, false
	}
	first := h.line[0]
	return max(first.due, min(h.shut, first.since+patience.Milliseconds())), true
}

// idle reports whether nothing is known of the host that is worth to be kept.
func (h *host) idle() bool { return len(h.line) == 0 && h.busy == 0 }

// outcome is what a try says of a host.
type outcome int

const (
	unasked outcome = iota // nothing
	lives                  // it has answered, be it to refuse
	fails                  // it did not answer, or is in trouble
)

// note takes note of what a try says of the host, which took so long.
func (h *host) note(o outcome, now time.Time, took time.Duration) {
	if o != unasked {
		h.known, h.slow = true, took >= slowTime
	}
	switch o {
	case lives:
		h.fails, h.shut = 0, 0
	case fails:
		h.fails++
		if h.fails >= shutAfter {
			h.shut = now.Add(shutTime(h.fails - shutAfter)).UnixMilli()
		}
	}
}

// shutTime is how long a host is let alone that was so n times before.
func shutTime(n int) time.Duration {
	wait := longestShut
	if n < 10 {
		wait = min(longestShut, firstShut<<n)
	}
	return wait + time.Duration(rand.Float64()*spread*float64(wait))
}

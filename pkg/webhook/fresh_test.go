package webhook

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// hangsAtH hangs where the name of the host begins with an h.
func hangsAtH(r *http.Request) (*http.Response, error) {
	if r.URL.Host[0] == 'h' {
		return hangs(r)
	}
	return says(204)(r)
}

// soon requires that a delivery to a host that is well is made as if no other were ill: the
// tries before it leave the quick lane, a lane-full at a time.
func (w *world) soon(s *Sender, most time.Duration) {
	w.t.Helper()
	d := w.put(s, "well")
	pass(most)
	require.Equal(w.t, job.Delivered, w.now(d).State)
}

// Of hosts that nobody knows yet, as after a start, many hang: who is well waits for them no
// longer than it takes to find out.
func TestFreshHostsThatHang(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(hangsAtH)
		for n := range 2 * laneBusy {
			w.put(nil, hostName(n))
		}
		s, stop := w.run()
		defer stop()
		w.soon(s, 2*slowTime+time.Second)
	})
}

// Each second others hang, of which no name was seen before.
func TestHostsThatHangUnderNewNames(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(hangsAtH)
		s, stop := w.run()
		defer stop()
		for second := range 60 {
			for n := range 20 {
				w.put(s, hostName(20*second+n))
			}
			w.soon(s, time.Second)
		}
	})
}

// Hosts that answer once, and then hang, with as many tries as they may have.
func TestKnownHostsThatHang(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		asked := map[string]bool{}
		w.receivers(func(r *http.Request) (*http.Response, error) {
			w.mu.Lock()
			known := asked[r.URL.Host]
			asked[r.URL.Host] = true
			w.mu.Unlock()
			if known {
				return hangsAtH(r)
			}
			return says(204)(r)
		})
		for n := range 2 * laneBusy / hostBusy {
			for range 4 * hostBusy {
				w.put(nil, hostName(n))
			}
		}
		s, stop := w.run() // now: a host that has nothing in line is forgotten, be it known or not
		defer stop()
		pass(0)
		require.Equal(t, laneBusy, w.underWay(), "the hosts have as many as they may have")
		w.soon(s, 2*slowTime+time.Second)
	})
}

package webhook

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/millstream/millstream/pkg/job"
)

// However many receivers are slow: one that is quick waits for none of them.
func TestSlowHostsAreApart(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host[0] == 'h' {
				time.Sleep(14 * time.Second)
			}
			return says(204)(r)
		})
		s, stop := w.run()
		defer stop()
		const hosts, each = 100, 20
		for n := range hosts {
			for range each {
				w.put(s, hostName(n))
			}
		}
		for range 20 {
			pass(15 * time.Second)
			d := w.put(s, "quick")
			pass(0)
			require.Equal(t, job.Delivered, w.now(d).State)
		}
		pass(hosts * each / laneBusy * 16 * time.Second)
		require.Equal(t, hosts*each+20, w.count(job.Delivered), "nor are they left out")
	})
}

// An erasure that comes behind the reading of a delivery comes before its sending.
func TestErasedBehindTheReading(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		s, stop := w.run()
		defer stop()
		w.mu.Lock()
		w.read = func(d *job.Delivery) error {
			w.mu.Lock()
			delete(w.kept, d.Message())
			w.mu.Unlock()
			s.Fold(&job.Commit{Job: &job.Job{ID: d.Job, Erased: true, Webhook: &job.Webhook{URL: d.URL}}})
			return nil
		}
		w.mu.Unlock()
		w.put(s, "a")
		pass(time.Hour)
		require.Empty(t, w.tries("a"))
		require.Zero(t, s.Waiting())
		require.Empty(t, s.under)
	})
}

// Of a delivery that was replayed the old place in line is void.
func TestRoundsAreApart(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(says(500))
		s, stop := w.run()
		defer stop()
		d := w.put(s, "a")
		pass(time.Minute)
		require.Len(t, w.tries("a"), 2)
		again := w.now(d)
		again.Round, again.Tries, again.NextAt = 1, 0, time.Now().Add(time.Second) // who is due at once may have left the line before it is counted
		w.mu.Lock()
		w.kept[d.Message()] = again
		w.mu.Unlock()
		require.True(t, s.Due(&again))
		require.Equal(t, 2, s.Waiting())
		pass(100 * time.Hour)
		tries := w.tries("a")[2:]
		require.Len(t, tries, len(schedule))
		for i := 1; i < len(tries); i++ {
			require.GreaterOrEqual(t, tries[i].at.Sub(tries[i-1].at), schedule[i])
		}
	})
}

// A delivery that cannot be read is told of once, and makes no trouble.
func TestDamaged(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		core, logs := observer.New(zap.WarnLevel)
		w.log = zap.New(core)
		s, stop := w.run()
		defer stop()
		w.read = func(*job.Delivery) error { return job.ErrDamaged }
		w.put(s, "a")
		pass(time.Hour)
		require.Equal(t, 1, logs.FilterMessage("damaged delivery").Len())
		require.Zero(t, s.Waiting())
	})
}

// While the store is in trouble the log says so, and not of each delivery in each second.
func TestStoreInTrouble(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		core, logs := observer.New(zap.WarnLevel)
		w.log = zap.New(core)
		s, stop := w.run()
		defer stop()
		w.read = func(*job.Delivery) error { return job.Problemf("storage-unavailable", "down") }
		for n := range 100 {
			w.put(s, hostName(n))
		}
		pass(time.Minute)
		require.InDelta(t, 6, logs.Len(), 1)
		w.mu.Lock()
		w.read = func(*job.Delivery) error { return nil }
		w.mu.Unlock()
		pass(2 * storeAgain)
		require.Equal(t, 100, w.count(job.Delivered))
	})
}

// A store that takes its time makes no receiver a slow one.
func TestSlowStore(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		s, stop := w.run()
		defer stop()
		w.read = func(*job.Delivery) error { time.Sleep(2 * slowTime); return nil }
		for range 3 {
			w.put(s, "a")
		}
		pass(3 * slowTime)
		s.mu.Lock()
		h, aside := s.hosts["https://a"], s.aside
		s.mu.Unlock()
		require.NotNil(t, h)
		require.False(t, h.slow)
		require.Zero(t, aside)
		pass(time.Minute)
		require.Equal(t, 3, w.count(job.Delivered))
	})
}

// A delivery that was put off by a clock that has been set back since waits no longer than any.
func TestClockSetBack(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		d := w.put(nil, "a")
		far := *d
		far.NextAt = time.Now().Add(365 * 24 * time.Hour)
		w.kept[d.Message()] = far
		_, stop := w.run()
		defer stop()
		pass(longestWait)
		require.Equal(t, job.Delivered, w.now(d).State)
	})
}

// An event that finds no place in line is passed over, and its job's end leaves nothing behind.
func TestFollowersAreBounded(t *testing.T) {
	w := newWorld(t)
	s := New(w, Options{Keys: w.keys, Log: zap.NewNop()})
	d := w.put(nil, "a")
	for range maxLine {
		require.True(t, s.Due(d))
	}
	j := job.Job{ID: job.NewID(), Status: job.StatusRunning, Webhook: &job.Webhook{URL: d.URL, Events: []job.Type{job.Progress}}}
	s.Fold(&job.Commit{Job: &j})
	require.Equal(t, maxLine, s.Waiting())
	require.Len(t, s.follow, 1)
	over := j
	over.Status = job.StatusSucceeded
	s.Fold(&job.Commit{Was: j.Status, Job: &over})
	require.Empty(t, s.follow)
}

// A network of IPv4 may be written as IPv6 has it.
func TestMappedNetwork(t *testing.T) {
	for text, want := range map[string]bool{"::ffff:10.0.0.0/104": true, "10.0.0.0/8": true, "::ffff:11.0.0.0/104": false} {
		g := newGuard([]netip.Prefix{netip.MustParsePrefix(text)})
		require.Equal(t, want, g.public("tcp4", "10.1.2.3:443", nil) == nil, text)
	}
}

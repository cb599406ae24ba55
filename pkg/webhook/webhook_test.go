package webhook

import (
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// A receiver that never says 2xx is tried as Standard Webhooks has it, and then no more. Each
// try has the same id and body, and a signature of its own time.
func TestSchedule(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(says(500))
		s, stop := w.run()
		defer stop()
		d := w.put(s, "a")
		pass(100 * time.Hour)
		tries := w.tries("a")
		require.Len(t, tries, len(schedule))
		for i := 1; i < len(tries); i++ {
			wait := tries[i].at.Sub(tries[i-1].at)
			require.GreaterOrEqual(t, wait, schedule[i])
			require.LessOrEqual(t, wait, schedule[i]+time.Duration(float64(schedule[i])*spread)+time.Millisecond)
			require.Equal(t, d.Message(), tries[i].id)
			require.Equal(t, []byte(d.Body), tries[i].body)
		}
		dead := w.now(d)
		require.Equal(t, job.DeliveryDead, dead.State)
		require.Equal(t, len(schedule), dead.Tries)
		require.Equal(t, "500 Internal Server Error", dead.Last.Error)
		require.Equal(t, 500, dead.Last.Status)
		require.False(t, dead.SettledAt.IsZero())
		require.Zero(t, s.Waiting())
		require.Empty(t, s.hosts, "nothing is remembered of a host that nothing waits for")
	})
}

// A receiver that is down for days, and a sender that is started anew meanwhile: nothing is
// lost, or given up.
func TestOutageAndRestarts(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(hangs)
		var all []*job.Delivery
		for range 20 {
			all = append(all, w.put(nil, "a"))
		}
		for range 3 {
			_, stop := w.run()
			pass(20 * time.Hour)
			stop()
		}
		w.receivers(says(204))
		_, stop := w.run()
		defer stop()
		pass(27 * time.Hour)
		require.Equal(t, len(all), w.count(job.Delivered))
		for _, d := range all {
			require.LessOrEqual(t, w.now(d).Tries, len(schedule))
		}
	})
}

func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		state  job.DeliveryState
		wait   time.Duration // until the next try
		reason string
	}{
		"200":                   {says(200), job.Delivered, 0, ""},
		"299":                   {says(299), job.Delivered, 0, ""},
		"410 stops":             {says(410), job.DeliveryDead, 0, "410: the receiver wants no more"},
		"404":                   {says(404), job.DeliveryPending, 5 * time.Second, "404 Not Found"},
		"a redirect":            {says(307, "Location", "https://b/"), job.DeliveryPending, 5 * time.Second, "307: a redirect, which is not followed; submit with the URL that it leads to"},
		"199":                   {says(199), job.DeliveryPending, 5 * time.Second, "199"},
		"Retry-After":           {says(503, "Retry-After", "600"), job.DeliveryPending, 10 * time.Minute, "503 Service Unavailable"},
		"Retry-After as a date": {says(429, "Retry-After", time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC).Format(http.TimeFormat)), job.DeliveryPending, 2 * time.Hour, "429 Too Many Requests"},
		"a short Retry-After":   {says(429, "Retry-After", "1"), job.DeliveryPending, 5 * time.Second, "429 Too Many Requests"},
		"Retry-After of ages":   {says(503, "Retry-After", "99999999999999999999"), job.DeliveryPending, maxRetryAfter, "503 Service Unavailable"},
		"Retry-After of a year": {says(503, "Retry-After", "31536000"), job.DeliveryPending, maxRetryAfter, "503 Service Unavailable"},
		"no Retry-After":        {says(503, "Retry-After", "soon"), job.DeliveryPending, 5 * time.Second, "503 Service Unavailable"},
		"silence":               {hangs, job.DeliveryPending, 5 * time.Second, "no answer within 15s"},
		"no such name": {func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Server: "10.0.0.53:53"}
		}, job.DeliveryPending, 5 * time.Second, "the receiver's name cannot be looked up"},
		"no connection": {func(*http.Request) (*http.Response, error) { return nil, errors.New("refused\xff") }, job.DeliveryPending, 5 * time.Second, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world) {
				w.receivers(tc.answer)
				s, stop := w.run()
				defer stop()
				d := w.put(s, "a")
				pass(19 * time.Second)
				w.receivers(says(204))
				first := w.now(d)
				if first.Tries > 1 { // the second has come
					require.Equal(t, 5*time.Second, tc.wait)
					return
				}
				require.Equal(t, tc.state, first.State)
				require.Equal(t, tc.reason, first.Last.Error)
				if tc.state == job.DeliveryPending {
					wait := first.NextAt.Sub(first.Last.At)
					require.GreaterOrEqual(t, wait, tc.wait)
					require.LessOrEqual(t, wait, tc.wait+tc.wait/10+time.Second)
				}
			})
		})
	}
}

// A host has a few tries at a time, and holds up no other.
func TestHostsAreApart(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "slow" {
				time.Sleep(10 * time.Second)
			}
			return says(204)(r)
		})
		s, stop := w.run()
		defer stop()
		for range 100 {
			w.put(s, "slow")
		}
		quick := w.put(s, "quick")
		pass(time.Millisecond)
		require.Equal(t, job.Delivered, w.now(quick).State)
		require.Equal(t, 1, w.most["slow"], "nothing is known of it yet")
		pass(100 / hostBusy * 11 * time.Second)
		pass(10 * time.Second)
		require.Equal(t, 101, w.count(job.Delivered))
		require.Equal(t, hostBusy, w.most["slow"])
	})
}

// A host that is down is left alone but for one try now and then, however much waits for it;
// when it is back, what waits goes at once.
func TestBreaker(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "dead" {
				return hangs(r)
			}
			return says(204)(r)
		})
		s, stop := w.run()
		defer stop()
		const many = 10_000
		for range many {
			w.put(s, "dead")
		}
		for n := range 300 {
			w.put(s, hostName(n))
		}
		pass(time.Second)
		require.Equal(t, 300, w.count(job.Delivered), "a dead host holds up no other")
		pass(24*time.Hour - time.Second)
		require.Less(t, len(w.tries("dead")), hostBusy+shutAfter+24*60/5+20)
		w.receivers(says(204))
		pass(longestShut + longestShut/10 + time.Minute)
		require.Greater(t, w.count(job.Delivered), 300+many-24*60/5-20, "all but those that were tried, whose turn comes")
		require.LessOrEqual(t, w.most["dead"], hostBusy)
		pass(10 * time.Hour)
		require.Equal(t, 300+many, w.count(job.Delivered))
	})
}

// What waits for a host that stays down is given up in the end, tried or not; a dead letter
// can be sent again.
func TestPatience(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(hangs)
		s, stop := w.run()
		defer stop()
		const many = 2000
		var last *job.Delivery
		for range many {
			last = w.put(s, "dead")
		}
		pass(patience - time.Hour)
		require.Greater(t, w.count(job.DeliveryPending), many/2)
		pass(2 * time.Hour)
		require.Equal(t, many, w.count(job.DeliveryDead))
		require.Equal(t, errPatience.Error(), w.now(last).Last.Error)
		w.receivers(says(204))
		again := w.now(last)
		again.State, again.Tries, again.Since, again.NextAt = job.DeliveryPending, 0, time.Now(), time.Now()
		require.NoError(t, w.Tried(t.Context(), &again))
		require.True(t, s.Due(&again))
		pass(time.Second)
		require.Equal(t, job.Delivered, w.now(last).State)
	})
}

// A delivery whose job is erased is not sent, and what was on its way comes to nothing.
func TestErased(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(says(500))
		s, stop := w.run()
		defer stop()
		d := w.put(s, "a")
		pass(time.Second)
		require.Len(t, w.tries("a"), 1)
		w.mu.Lock()
		delete(w.kept, d.Message())
		w.mu.Unlock()
		pass(time.Hour)
		require.Len(t, w.tries("a"), 1)
		require.Zero(t, s.Waiting())
	})
}

// A stop waits a little for answers; a try that is cut counts for nothing.
func TestStop(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(hangs)
		s, stop := w.run()
		d := w.put(s, "a")
		pass(time.Second)
		begin := time.Now()
		stop()
		require.Equal(t, graceTime, time.Since(begin))
		require.Equal(t, *d, w.now(d))
		w.receivers(says(204))
		_, stop = w.run()
		defer stop()
		pass(0)
		require.Equal(t, job.Delivered, w.now(d).State)
	})
}

// While secrets are rotated each of them verifies what is sent.
func TestRotation(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		fresh, old := standardwebhooks.NewSecret(), standardwebhooks.NewSecret()
		both, err := standardwebhooks.ParseKeys(fresh, old)
		require.NoError(t, err)
		w.keys = both
		s, stop := w.run()
		defer stop()
		verified := 0
		w.receivers(func(r *http.Request) (*http.Response, error) {
			w.mu.Lock()
			body := w.got[len(w.got)-1].body
			w.mu.Unlock()
			for _, secret := range []string{fresh, old} {
				one, err := standardwebhooks.ParseKeys(secret)
				require.NoError(t, err)
				require.NoError(t, one.Verify(r.Header, body))
				verified++
			}
			return says(204)(r)
		})
		w.put(s, "a")
		pass(0)
		require.Equal(t, 2, verified)
	})
}

// Without a secret nothing is sent, and nothing is lost.
func TestNoSecret(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		d := w.put(nil, "a")
		keys := w.keys
		w.keys = nil
		s, stop := w.run()
		pass(time.Hour)
		require.Equal(t, 1, s.Waiting())
		stop()
		w.keys = keys
		_, stop = w.run()
		defer stop()
		pass(0)
		require.Equal(t, job.Delivered, w.now(d).State)
	})
}

// More than so many are not taken, of one host.
func TestLineIsBounded(t *testing.T) {
	w := newWorld(t)
	s := New(w, Options{Keys: w.keys, Log: zap.NewNop()})
	d := w.put(nil, "a")
	for range maxLine {
		require.True(t, s.Due(d))
	}
	require.False(t, s.Due(d))
	d.URL = "https://b/"
	require.True(t, s.Due(d))
}

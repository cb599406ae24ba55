package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// mischief is what a connection does after it has sent one event; it says
// whether the connection goes on.
type mischief func(w http.ResponseWriter, next job.Event) bool

// then sends text and cuts the connection as a dead process does: in the middle.
func then(text func(next job.Event) string) mischief {
	return func(w http.ResponseWriter, next job.Event) bool {
		fmt.Fprint(w, text(next))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func always(text string) func(job.Event) string { return func(job.Event) string { return text } }

var mischiefs = map[string]mischief{
	"nothing":          func(http.ResponseWriter, job.Event) bool { return true },
	"end":              func(http.ResponseWriter, job.Event) bool { return false },
	"cut":              then(always("")),
	"cut in the event": then(func(next job.Event) string { return strings.TrimSuffix(frame(next), "\n") }),
	"stream.end":       then(always("event: stream.end\ndata: {\"type\":\"stream.end\",\"data\":{\"reason\":\"drain\"}}\n\n")),
	"not JSON": then(func(next job.Event) string {
		return "id: " + next.Cursor().String() + "\nevent: job.progress\ndata: {\"id\n\n"
	}),
	"no name":        then(always("data: {}\n\n")),
	"no job's event": then(always("id: 9-9-9\ndata:\n\n")),
	"noise":          then(always("\x00\xff<html>\n\n:\nid: nothing\n\n")),
	"too long":       then(always("data: " + strings.Repeat("x", 2<<20))),
}

func TestEvents_eachOnceWhateverHappens(t *testing.T) {
	for name, do := range mischiefs {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { watchThrough(t, 20, func(int) mischief { return do }) })
		})
	}
	t.Run("all of it", rapid.MakeCheck(func(rt *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom(keys(mischiefs)), 15, 15).Draw(rt, "mischief")
		synctest.Test(t, func(t *testing.T) { watchThrough(t, 15, func(n int) mischief { return mischiefs[names[n-1]] }) })
	}))
}

func keys[V any](m map[string]V) (k []string) {
	for name := range m {
		k = append(k, name)
	}
	return k
}

// watchThrough watches a job of which each connection shows the event before the
// one it resumes behind once more, then events, with mischief after each.
func watchThrough(t *testing.T, last int, do func(n int) mischief) {
	c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin(w, 2*time.Second)
		for n := max(1, after(r)); n <= last; n++ {
			fmt.Fprint(w, frame(event(n, last)))
			w.(http.Flusher).Flush()
			if n > after(r) && n < last && !do(n)(w, event(n+1, last)) {
				return
			}
		}
	}), client.Options{})
	defer stop()
	got, err := seen(t.Context(), c, "")
	require.NoError(t, err)
	require.Equal(t, upTo(last), got)
}

func TestEvents_request(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Last-Event-ID"))
			require.Equal(t, "text/event-stream", r.Header.Get("Accept"))
			require.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
			begin(w, time.Second)
			fmt.Fprint(w, frame(event(after(r)+1, 5)))
		}), client.Options{})
		defer stop()
		got, err := seen(t.Context(), c, "3-103-1")
		require.NoError(t, err)
		require.Equal(t, []int{4, 5}, got)
		path := "GET /v1/jobs/" + string(testJob) + "/events?after=3-103-1 "
		require.Equal(t, []string{path, path + "4-104-1"}, asked)
	})
}

func TestEvents_receivesTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const object = `{"id":"1-9-1","seq":1, "type":"job.succeeded","job":"` + string(testJob) + `","more":1e2,"data":{"b":1,"a":2}}`
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			begin(w, 0)
			fmt.Fprintf(w, "id: 1-9-1\nevent: job.succeeded\ndata: %s\n\n", object)
		}), client.Options{})
		defer stop()
		for e, err := range c.Events(t.Context(), testJob, "") {
			require.NoError(t, err)
			require.Equal(t, object, string(e.JSON))
			require.Equal(t, "1-9-1", e.ID)
			require.Equal(t, job.Succeeded, e.Type)
			require.JSONEq(t, `{"b":1,"a":2}`, string(e.Data))
		}
	})
}

// TestEvents_waits holds the times between two connections against what the
// stream or the refusal asked for.
func TestEvents_waits(t *testing.T) {
	refuse := func(status int, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(status)
		}
	}
	ends := func(retry time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { begin(w, retry) }
	}
	for name, tt := range map[string]struct {
		first    http.HandlerFunc
		min, max time.Duration
	}{
		"as named":               {ends(3500 * time.Millisecond), 3500 * time.Millisecond, 3500 * time.Millisecond},
		"not named":              {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/event-stream") }, time.Second, time.Second},
		"not at all":             {ends(0), 100 * time.Millisecond, 100 * time.Millisecond},
		"no longer than allowed": {ends(24 * time.Hour), 2 * time.Minute, 2 * time.Minute},
		"overload":               {refuse(503, ""), 500 * time.Millisecond, 1500 * time.Millisecond},
		"rate limit":             {refuse(429, "17"), 17 * time.Second, 17 * time.Second},
		"after the year 2300":    {refuse(429, "9300000000"), 2 * time.Minute, 2 * time.Minute},
		"never, on most clocks":  {refuse(503, "18446744073709551617"), 2 * time.Minute, 2 * time.Minute},
		"negative":               {refuse(503, "-17"), 500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					at = append(at, time.Now())
					if len(at) == 1 {
						tt.first(w, r)
						return
					}
					w.WriteHeader(http.StatusNoContent)
				}), client.Options{})
				defer stop()
				_, err := seen(t.Context(), c, "")
				require.NoError(t, err)
				require.Len(t, at, 2)
				require.GreaterOrEqual(t, at[1].Sub(at[0]), tt.min)
				require.LessOrEqual(t, at[1].Sub(at[0]), tt.max)
			})
		})
	}
}

func TestEvents_silence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var again time.Duration
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w, time.Second)
			if after(r) == 1 {
				again = time.Since(start)
				fmt.Fprint(w, frame(event(2, 2)))
				return
			}
			fmt.Fprint(w, frame(event(1, 2)))
			for range 10 { // 100 s of heartbeats, then nothing
				fmt.Fprint(w, ":\n")
				w.(http.Flusher).Flush()
				<-time.After(10 * time.Second)
			}
			<-r.Context().Done()
		}), client.Options{})
		defer stop()
		got, err := seen(t.Context(), c, "")
		require.NoError(t, err)
		require.Equal(t, []int{1, 2}, got)
		require.InDelta(t, 90+45+1, again.Seconds(), 1)
	})
}

func TestEvents_slowCallerIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			connections++
			begin(w, time.Second)
			fmt.Fprint(w, frame(event(1, 2)))
			w.(http.Flusher).Flush()
			fmt.Fprint(w, frame(event(2, 2)))
		}), client.Options{})
		defer stop()
		for _, err := range c.Events(t.Context(), testJob, "") {
			require.NoError(t, err)
			<-time.After(time.Hour)
		}
		require.Equal(t, 1, connections)
	})
}

func TestEvents_reset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w, time.Second)
			if after(r) == 5 { // the store lost its tail
				fmt.Fprintf(w, "id: 2-50-2\nevent: stream.reset\ndata: {\"id\":\"2-50-2\",\"type\":\"stream.reset\",\"data\":{\"reason\":\"epoch\"}}\n\n")
				return // and the client must not forget it
			}
			if after(r) == 2 {
				fmt.Fprint(w, frame(event(3, 4)), frame(event(4, 4)))
				return
			}
			for n := 1; n <= 5; n++ {
				fmt.Fprint(w, frame(event(n, 9)))
			}
		}), client.Options{})
		defer stop()
		var got []string
		for e, err := range c.Events(t.Context(), testJob, "") {
			require.NoError(t, err)
			got = append(got, fmt.Sprint(e.Type, " ", e.ID))
		}
		require.Equal(t, []string{
			"job.progress 1-101-1", "job.progress 2-102-1", "job.progress 3-103-1", "job.progress 4-104-1", "job.progress 5-105-1",
			"stream.reset 2-50-2", "job.progress 3-103-1", "job.succeeded 4-104-1",
		}, got)
	})
}

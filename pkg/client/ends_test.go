package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// TestEvents_ends has the ways a watch ends that are not the job's end.
func TestEvents_ends(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(code)
			fmt.Fprint(w, `{"type":"/problems/some-name","title":"T","detail":"because"}`)
		}
	}
	stream := func(frames ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			begin(w, time.Second)
			fmt.Fprint(w, strings.Join(frames, ""))
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string        // the error; empty: none
		after   time.Duration // at the least
	}{
		"over":         {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		"unauthorised": {handler: status(401), want: "because"},
		"forbidden":    {handler: status(403), want: "because"},
		"unknown":      {handler: status(404), want: "because"},
		"not stream":   {handler: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, want: `answered "text/html; charset=utf-8"`},
		"hole":         {handler: stream(frame(event(1, 9)), frame(event(3, 9))), want: "job.progress has number 3, not 2"},
		"late":         {handler: stream(frame(event(2, 9))), want: "job.progress has number 2, not 1"},
		"away":         {handler: status(503), want: "because", after: 5 * time.Minute},
		"damaged":      {handler: stream("data: {\n\n"), want: "damaged", after: 5 * time.Minute},
		"endless":      {handler: stream("data: " + strings.Repeat("x", 2<<20)), want: "too large", after: 5 * time.Minute},
		"silent": {handler: func(w http.ResponseWriter, r *http.Request) {
			begin(w, time.Second)
			<-r.Context().Done()
		}, want: "silent", after: 5 * time.Minute},
		"no answer": {handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, want: "silent", after: 45 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c, stop := serve(t, tt.handler, client.Options{})
				defer stop()
				_, err := seen(t.Context(), c, "")
				if tt.want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, tt.want)
				}
				require.GreaterOrEqual(t, time.Since(start), tt.after)
				require.LessOrEqual(t, time.Since(start), tt.after+3*time.Minute) // a last pause and a last silence
			})
		})
	}
}

func TestEvents_problem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(job.Problemf("not-found", "no such job").JSON())
		}), client.Options{})
		defer stop()
		_, err := seen(t.Context(), c, "")
		require.ErrorIs(t, err, job.ErrNotFound)
	})
}

func TestEvents_serverComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		var told []string
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch tries++; {
			case tries == 1, tries == 6:
				begin(w, time.Second)
				fmt.Fprint(w, frame(event(after(r)+1, 3)))
			case tries < 10:
				panic(http.ErrAbortHandler) // nobody is there
			default:
				begin(w, time.Second)
				fmt.Fprint(w, frame(event(after(r)+1, 3)))
			}
		}), client.Options{Lost: func(id job.ID, err error) {
			told = append(told, "lost")
			require.Equal(t, testJob, id)
			require.ErrorContains(t, err, "EOF")
		}, Found: func(id job.ID) {
			told = append(told, fmt.Sprint("found at ", tries))
			require.Equal(t, testJob, id)
		}})
		defer stop()
		got, err := seen(t.Context(), c, "")
		require.NoError(t, err)
		require.Equal(t, []int{1, 2, 3}, got)
		require.Equal(t, []string{"lost", "found at 6", "lost", "found at 10"}, told, "once for each time that it is away")
	})
}

func TestEvents_noServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c, stop := serve(t, nil, client.Options{})
		stop()
		_, err := seen(t.Context(), c, "")
		require.Error(t, err)
		require.Zero(t, time.Since(start), "a mistyped address is told at once")
	})
}

func TestEvents_callerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begin(w, time.Second)
			fmt.Fprint(w, frame(event(1, 9)))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(left)
		}), client.Options{})
		defer stop()
		for range c.Events(t.Context(), testJob, "") {
			break
		}
		<-left
	})
}

func TestEvents_contextEnds(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"while it listens": func(w http.ResponseWriter, r *http.Request) {
			begin(w, time.Second)
			<-r.Context().Done()
		},
		"while it waits": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := serve(t, h, client.Options{})
				defer stop()
				why := errors.New("enough")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, why)
				defer cancel()
				_, err := seen(ctx, c, "")
				require.ErrorIs(t, err, why)
			})
		})
	}
}

func TestEvents_streamEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at = append(at, time.Now())
			begin(w, 7*time.Second)
			if len(at) == 1 {
				fmt.Fprint(w, "id: 3-103-1\nevent: stream.end\ndata: {\"type\":\"stream.end\",\"data\":{\"reason\":\"busy\"}}\n\n")
				return
			}
			fmt.Fprint(w, frame(event(4, 4)))
		}), client.Options{})
		defer stop()
		got, err := seen(t.Context(), c, "3-103-1")
		require.NoError(t, err)
		require.Equal(t, []int{4}, got, "it is not for the caller")
		require.Equal(t, 7*time.Second, at[1].Sub(at[0]))
	})
}

// TestEvents_busyIsNotLost: a server that says "come back" for longer than the
// client's patience is there all the time.
func TestEvents_busyIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			switch tries++; {
			case tries == 1 || tries == 22:
				w.WriteHeader(http.StatusServiceUnavailable)
			case tries < 22:
				begin(w, time.Minute)
				fmt.Fprint(w, "event: stream.end\ndata: {}\n\n")
			default:
				w.WriteHeader(http.StatusNoContent)
			}
		}), client.Options{})
		defer stop()
		_, err := seen(t.Context(), c, "")
		require.NoError(t, err)
		require.Equal(t, 23, tries)
	})
}

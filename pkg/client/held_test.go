package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// refuseWith answers with a problem of the name.
func refuseWith(w http.ResponseWriter, status int, name string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"/problems/%[1]s","title":"%[1]s"}`, name)
}

// held submits and watches, and returns the numbers of the events.
func held(t *testing.T, c *client.Client, input io.Reader, o *client.SubmitOptions) (seqs []int, err error) {
	for e, err := range c.SubmitAndWatch(t.Context(), "transcode", input, o) {
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, int(e.Seq))
	}
	return seqs, nil
}

// Each connection submits the same once more, whatever comes between, and each event
// comes once.
func TestSubmitAndWatch(t *testing.T) {
	between := map[string]http.HandlerFunc{
		"nothing":     nil,
		"lost":        func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"draining":    func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 503, "draining") },
		"in progress": func(w http.ResponseWriter, _ *http.Request) { refuseWith(w, 409, "in-progress") },
	}
	for name, mischief := range between {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shown := 0
				var asked []string
				c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					asked = append(asked, fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Header.Get("Accept"), " ", r.Header.Get("Idempotency-Key"), " ", string(body)))
					if mischief != nil && len(asked)%2 == 0 {
						mischief(w, r)
						return
					}
					shown++
					begin(w, time.Second)
					for n := 1; n <= shown; n++ {
						fmt.Fprint(w, frame(event(n, 4)))
					}
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}), client.Options{})
				defer stop()
				got, err := held(t, c, strings.NewReader("input"), &client.SubmitOptions{CancelOnDisconnect: true, Key: "k"})
				require.NoError(t, err)
				require.Equal(t, upTo(4), got)
				for _, a := range asked {
					require.Equal(t, `POST /v1/kinds/transcode/jobs?cancel_on_disconnect=true text/event-stream "k" input`, a)
				}
			})
		})
	}
}

// An answer that was lost is asked for again with the key that was made up.
func TestSubmitAndWatch_lost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []string
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			switch len(keys) {
			case 1:
				panic(http.ErrAbortHandler)
			case 2:
				refuseWith(w, 409, "in-progress")
				return
			}
			begin(w, time.Second)
			fmt.Fprint(w, frame(event(1, 1)))
		}), client.Options{})
		defer stop()
		got, err := held(t, c, nil, nil)
		require.NoError(t, err)
		require.Equal(t, []int{1}, got)
		require.Len(t, keys, 3)
		require.NotEmpty(t, keys[0])
		require.Equal(t, []string{keys[0], keys[0], keys[0]}, keys)
	})
}

// What there is no sense in repeating ends the watch.
func TestSubmitAndWatch_ends(t *testing.T) {
	cut := func(w http.ResponseWriter) {
		begin(w, time.Second)
		fmt.Fprint(w, frame(event(1, 9)))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for name, tt := range map[string]struct {
		input   io.Reader
		answers []func(http.ResponseWriter)
		error   string
	}{
		"refused":       {nil, []func(http.ResponseWriter){func(w http.ResponseWriter) { refuseWith(w, 503, "queue-full") }}, "queue-full"},
		"refused later": {nil, []func(http.ResponseWriter){cut, func(w http.ResponseWriter) { refuseWith(w, 404, "not-found") }}, "not-found"},
		"not to repeat": {io.MultiReader(strings.NewReader("once")), []func(http.ResponseWriter){cut}, "cut"},
		"no stream":     {nil, []func(http.ResponseWriter){func(w http.ResponseWriter) { fmt.Fprint(w, jobJSON) }}, "not an event stream"},
		"nothing":       {nil, []func(http.ResponseWriter){func(w http.ResponseWriter) { w.WriteHeader(204) }}, "not an event stream"},
		"another job":   {nil, []func(http.ResponseWriter){cut, other}, "another job's"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					asked++
					tt.answers[asked-1](w)
				}), client.Options{})
				defer stop()
				_, err := held(t, c, tt.input, &client.SubmitOptions{Key: "k"})
				require.ErrorContains(t, err, tt.error)
			})
		})
	}
}

// other shows an event of another job.
func other(w http.ResponseWriter) {
	begin(w, time.Second)
	e := event(1, 9)
	e.Job = job.ID(strings.Replace(string(testJob), "aaa", "bbb", 1))
	fmt.Fprint(w, frame(e))
}

// An input that takes longer to send than a stream may be silent is sent all the same.
func TestSubmitAndWatch_slowInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			require.Equal(t, "slow", string(body))
			begin(w, time.Second)
			fmt.Fprint(w, frame(event(1, 1)))
		}), client.Options{Silence: time.Second})
		defer stop()
		in, out := io.Pipe()
		go func() {
			<-time.After(time.Minute)
			fmt.Fprint(out, "slow")
			_ = out.Close()
		}()
		got, err := held(t, c, in, nil)
		require.NoError(t, err)
		require.Equal(t, []int{1}, got)
	})
}

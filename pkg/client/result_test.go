package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
)

func TestResult(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "GET /v1/jobs/"+string(testJob)+"/result", r.Method+" "+r.RequestURI)
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("ETag", `"e"`)
		fmt.Fprint(w, "\x89PNG\x00")
	})
	r, err := c.Result(t.Context(), testJob)
	require.NoError(t, err)
	defer r.Body.Close()
	bytes, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, "\x89PNG\x00", string(bytes))
	require.Equal(t, []any{"image/png", int64(5), `"e"`}, []any{r.Type, r.Size, r.ETag})
}

func TestResult_notOver(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	_, err := c.Result(t.Context(), testJob)
	require.ErrorIs(t, err, client.ErrNotOver)
}

const wholeResult = "slow is smooth and smooth is fast"

// lossy serves wholeResult as the server does, but ends each connection behind four
// bytes: cut, or hung until the client gives up.
func lossy(w http.ResponseWriter, r *http.Request, hung bool) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("ETag", `"e"`)
	http.ServeContent(&fewBytes{w, 4, func() {
		_ = http.NewResponseController(w).Flush()
		if hung {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}}, r, "", time.Time{}, bytes.NewReader([]byte(wholeResult)))
}

// fewBytes lets so many bytes through, unless there are no more.
type fewBytes struct {
	http.ResponseWriter
	few int
	end func()
}

func (w *fewBytes) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(w.few, len(p))])
	if n < len(p) {
		w.end()
	}
	return n, err
}

func TestResult_resumes(t *testing.T) {
	for name, hung := range map[string]bool{"cut": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ranges []string
				c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
					lossy(w, r, hung)
				}), client.Options{})
				defer stop()
				r, err := c.Result(t.Context(), testJob)
				require.NoError(t, err)
				defer r.Body.Close()
				got, err := io.ReadAll(r.Body)
				require.NoError(t, err)
				require.Equal(t, wholeResult, string(got))
				require.Equal(t, []string{" ", `bytes=4- "e"`, `bytes=8- "e"`}, ranges[:3])
				require.Len(t, ranges, 9)
			})
		})
	}
}

// What cannot be resumed ends with the reason: never with what was there so far.
func TestResult_cutShort(t *testing.T) {
	for name, tt := range map[string]struct {
		tag, second string
		status      int
		want        string
	}{
		"no name for the bytes":     {"", "", 0, "unexpected EOF"},
		"a weak one":                {`W/"e"`, "", 0, "unexpected EOF"},
		"a server without ranges":   {`"e"`, "", 200, "cannot go on where the download was cut"},
		"another range":             {`"e"`, "bytes 0-32/33", 206, "cannot go on where the download was cut"},
		"a job that is gone":        {`"e"`, "", 404, "answered 404"},
		"a server that is gone":     {`"e"`, "", 503, "answered 503"},
		"a range that is too short": {`"e"`, "bytes 4-32/33", 206, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						w.Header().Set("Content-Range", tt.second)
						w.WriteHeader(tt.status)
						return
					}
					w.Header().Set("ETag", tt.tag)
					w.Header().Set("Content-Length", "33")
					fmt.Fprint(w, wholeResult[:4])
				}), client.Options{})
				defer stop()
				r, err := c.Result(t.Context(), testJob)
				require.NoError(t, err)
				defer r.Body.Close()
				got, err := io.ReadAll(r.Body)
				require.ErrorContains(t, err, tt.want)
				require.Equal(t, wholeResult[:4], string(got))
			})
		})
	}
}

func TestResult_silence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "33")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}), client.Options{})
		defer stop()
		start := time.Now()
		r, err := c.Result(t.Context(), testJob)
		require.NoError(t, err)
		defer r.Body.Close()
		_, err = io.ReadAll(r.Body)
		require.ErrorContains(t, err, "no byte came for 30s")
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

func TestResult_contextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { lossy(w, r, true) }), client.Options{})
		defer stop()
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, why)
		defer cancel()
		r, err := c.Result(ctx, testJob)
		require.NoError(t, err)
		defer r.Body.Close()
		_, err = io.ReadAll(r.Body)
		require.ErrorIs(t, err, why)
	})
}

// Who has closed a result and reads on gets no new connection, which nobody would end.
func TestResult_closed(t *testing.T) {
	var asked atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		lossy(w, r, true)
	})
	r, err := c.Result(t.Context(), testJob)
	require.NoError(t, err)
	_, err = io.ReadFull(r.Body, make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	_, err = r.Body.Read(make([]byte, 4))
	require.ErrorIs(t, err, http.ErrBodyReadAfterClose)
	require.EqualValues(t, 1, asked.Load())
}

package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// upstream starts a server that answers with h and counts the requests.
func upstream(t *testing.T, h http.HandlerFunc) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		h(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func answer(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil // net/http would guess
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		_, _ = io.WriteString(w, body)
	}
}

func (s *sink) http(t *testing.T, h worker.HTTP, input string) (worker.Outcome, error) {
	t.Helper()
	return s.runAttempt(t, h.Func(), s.attempt(input), worker.Options{})
}

func TestHTTPRequest(t *testing.T) {
	for _, tt := range []struct {
		name, method, input string
		idempotent          bool
	}{{"once", "", "the input", false}, {"any number of times", "PUT", "the input", true}, {"no input", "POST", "", false}} {
		t.Run(tt.name, func(t *testing.T) {
			url, asked := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				want := tt.method
				if want == "" {
					want = "POST"
				}
				body, _ := io.ReadAll(r.Body)
				require.Equal(t, want, r.Method)
				require.Equal(t, tt.input, string(body))
				require.Equal(t, int64(len(tt.input)), r.ContentLength)
				require.Equal(t, "/run", r.URL.Path)
				require.Equal(t, "reports.example", r.Host)
				for name, want := range map[string]string{
					"Content-Type":       "text/plain",
					"Millstream-Job":     "job_01k3z9qv3sf1b8w6t6e2m0x4ya",
					"Millstream-Attempt": "1",
					"Idempotency-Key":    "job_01k3z9qv3sf1b8w6t6e2m0x4ya",
					"Accept-Encoding":    "identity",
					"Authorization":      "Bearer x",
				} {
					require.Equal(t, []string{want}, r.Header.Values(name), name)
				}
				answer("", "")(w, r)
			})
			var s sink
			out, err := s.http(t, worker.HTTP{
				URL: url + "/run", Method: tt.method, Idempotent: tt.idempotent,
				Headers: map[string]string{"authorization": "Bearer x", "Millstream-Job": "forged", "Idempotency-Key": "forged", "Host": "reports.example"},
			}, tt.input)
			require.NoError(t, err)
			require.Equal(t, `{"result":null}`, string(out.Record.Data))
			require.Equal(t, int32(1), asked.Load())
		})
	}
}

func TestHTTPResultIsTheAnswer(t *testing.T) {
	large := strings.Repeat("\x00\xff\n", 1<<20)
	for _, tt := range []struct{ contentType, body, inline, typ string }{
		{"application/json", `{"a": 1}`, `{"a":1}`, "application/json"},
		{"text/html; charset=utf-8", "<p>é", `"<p>é"`, "text/html; charset=utf-8"},
		{"image/png", large, "", "image/png"},
		{"", "abc", "", "application/octet-stream"},
		{"text/plain", "", `""`, "text/plain"},
	} {
		url, _ := upstream(t, answer(tt.contentType, tt.body))
		var s sink
		out, err := s.http(t, worker.HTTP{URL: url}, "")
		require.NoError(t, err)
		requireResult(t, out, []byte(tt.body), tt.typ)
		require.True(t, bytes.Equal([]byte(tt.body), s.body(out)))
		if tt.inline != "" {
			require.Equal(t, `{"result":`+tt.inline+`}`, string(out.Record.Data))
		}
	}
}

func TestHTTPRefusals(t *testing.T) {
	const soon = "in an hour, as a date"
	for _, tt := range []struct {
		code       int
		after      string
		idempotent bool
		retryable  bool
		wait       time.Duration
	}{
		{429, "7", false, true, 7 * time.Second},
		{503, soon, false, true, time.Hour},
		{503, "", false, true, 0},
		{503, "soon", false, true, 0},
		{429, "4000000000", false, true, 24 * time.Hour},
		{429, "99999999999999999999", false, true, 24 * time.Hour},
		{429, "-7", false, true, 0},
		{503, "Mon, 01 Jan 2001 00:00:00 GMT", false, true, 0},
		{500, "7", false, false, 0},
		{502, "", false, false, 0},
		{500, "7", true, true, 7 * time.Second},
		{404, "", true, false, 0},
		{400, "", false, false, 0},
		{304, "", true, false, 0},
	} {
		url, asked := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			switch tt.after {
			case "":
			case soon:
				w.Header().Set("Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			default:
				w.Header().Set("Retry-After", tt.after)
			}
			w.WriteHeader(tt.code)
			_, _ = io.WriteString(w, "why\xff"+strings.Repeat(".", 3000))
		})
		var s sink
		begin := time.Now()
		_, err := s.http(t, worker.HTTP{URL: url, Idempotent: tt.idempotent}, "")
		p := requireProblem(t, err, "upstream-status", tt.retryable)
		if tt.after == soon { // to the second, as seen from when it was read
			require.LessOrEqual(t, p.RetryAfter, tt.wait)
			require.GreaterOrEqual(t, p.RetryAfter, tt.wait-time.Second-time.Since(begin))
		} else {
			require.Equal(t, tt.wait, p.RetryAfter, tt)
		}
		require.Contains(t, p.Detail, fmt.Sprintf("answered %d", tt.code))
		if tt.code != 304 {
			require.Contains(t, p.Detail, ": why\uFFFD...")
		}
		require.Less(t, len(p.Detail), 2200)
		require.Equal(t, int32(1), asked.Load(), "when to try again is not decided here")
	}
}

func TestHTTPRedirectsAreNotFollowed(t *testing.T) {
	elsewhere, asked := upstream(t, answer("", ""))
	for _, code := range []int{301, 302, 307, 308} {
		url, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, code) })
		var s sink
		_, err := s.http(t, worker.HTTP{URL: url, Client: &http.Client{}}, "secret input")
		requireProblem(t, err, "upstream-status", false)
	}
	require.Zero(t, asked.Load())
}

// nobody returns an address at which nobody listens, nor can: its port is that of a connection.
func nobody(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

func TestHTTPThatCannotConnect(t *testing.T) {
	var s sink
	_, err := s.http(t, worker.HTTP{URL: "http://" + nobody(t)}, "")
	p := requireProblem(t, err, "upstream-failed", true)
	require.NotContains(t, p.Detail, "127.0.0.1", "addresses are not for clients")

	_, err = s.http(t, worker.HTTP{URL: "::"}, "")
	requireProblem(t, err, "upstream-failed", false)
}

// hangUp ends the connection after it has written text.
func hangUp(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, text)
			conn.Close()
		}
	}
}

// What breaks once the request was sent may be repeated only if it is idempotent.
func TestHTTPThatBreaks(t *testing.T) {
	for name, text := range map[string]string{
		"no answer":           "",
		"half a header":       "HTTP/1.1 200 OK\r\nContent-",
		"no HTTP":             "hello\r\n\r\n",
		"half a body":         "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nhalf",
		"half a chunked body": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"half a stream":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\nb\r\ndata: one\n\n\r\n",
		"half of the lines":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/jsonl\r\n\r\n4\r\none\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := upstream(t, hangUp(text))
			var s sink
			out, err := s.http(t, worker.HTTP{URL: url}, "input")
			requireProblem(t, err, "outcome-unknown", false)
			require.Zero(t, out)
			require.Equal(t, int32(1), asked.Load())
			_, err = s.http(t, worker.HTTP{URL: url, Idempotent: true}, "input")
			requireProblem(t, err, "upstream-failed", true)
		})
	}
}

// A transport sends a request with an Idempotency-Key again by itself when a kept
// connection breaks. It must not, with or without a body.
func TestHTTPIsSentOnceOnAKeptConnection(t *testing.T) {
	for _, input := range []string{"", "input"} {
		calm := atomic.Bool{}
		calm.Store(true)
		url, asked := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			if calm.Load() {
				answer("text/plain", "fine")(w, r)
				return
			}
			hangUp("")(w, r)
		})
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		h := worker.HTTP{URL: url, Client: &http.Client{Transport: tr}}
		var s sink
		_, err := s.http(t, h, input)
		require.NoError(t, err)
		calm.Store(false)
		_, err = s.http(t, h, input)
		requireProblem(t, err, "outcome-unknown", false)
		require.Equal(t, int32(2), asked.Load())
	}
}

func TestHTTPTimeout(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { // else the time might be up before the request is sent
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }() // takes the request, and says nothing
			c := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return ours, nil }}}
			var s sink
			a := s.attempt("input")
			a.Job.Request.Timeout = time.Minute
			begin := time.Now()
			_, err := s.runAttempt(t, worker.HTTP{URL: "http://upstream.example", Idempotent: idempotent, Client: c}.Func(), a, worker.Options{})
			require.Equal(t, time.Minute, time.Since(begin))
			require.ErrorIs(t, err, job.Problemf("attempt-timeout", ""))
			if idempotent {
				requireProblem(t, err, "attempt-timeout", true)
			} else {
				requireProblem(t, err, "outcome-unknown", false)
			}
		})
	}
}

// roundTripper is a transport that knows nothing of traces.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHTTPThatIsNotSeenToBeUnsentWasSent(t *testing.T) {
	c := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no idea") })}
	var s sink
	_, err := s.http(t, worker.HTTP{URL: "http://upstream.example", Client: c}, "")
	requireProblem(t, err, "outcome-unknown", false)
}

// closer calls f at the end of what it reads.
type closer struct {
	io.Reader
	atEnd func()
}

func (c closer) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil {
		c.atEnd()
	}
	return n, err
}

// An answer that is there to the last byte counts, though the time is up: to ask
// again would be to do the work twice.
func TestHTTPAnswerStandsThoughTheAttemptEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		body := io.NopCloser(closer{strings.NewReader("done"), cancel})
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Body: body}, nil
	})}
	var s sink
	out, err := worker.Run(ctx, worker.HTTP{URL: "http://upstream.example", Client: c}.Func(), s.attempt(""), worker.Options{})
	require.NoError(t, err)
	require.Error(t, ctx.Err())
	require.Equal(t, `{"result":"done"}`, string(out.Record.Data))
}

func TestHTTPAnswerThatCannotBeStored(t *testing.T) {
	broken := errors.New("the store is broken")
	url, _ := upstream(t, answer("text/event-stream", "data: 1\n\n"))
	for _, idempotent := range []bool{false, true} {
		s := sink{refuse: func(job.Record) error { return broken }}
		_, err := s.http(t, worker.HTTP{URL: url, Idempotent: idempotent}, "")
		require.ErrorIs(t, err, broken)
		require.Equal(t, !idempotent, errors.Is(err, job.Problemf("outcome-unknown", "")))
	}
}

func TestHTTPEncodedAnswerIsRefused(t *testing.T) {
	url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "\x1f\x8b")
	})
	var s sink
	_, err := s.http(t, worker.HTTP{URL: url}, "")
	requireProblem(t, err, "invalid-result", false)
}

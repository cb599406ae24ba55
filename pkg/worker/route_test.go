package worker_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// route runs an attempt at a call to the upstream at address.
func (s *sink) route(t *testing.T, address string, idempotent bool, call job.Call, input string, edit ...func(*worker.Attempt)) (worker.Outcome, error) {
	t.Helper()
	a := s.attempt(input)
	a.Call = &call
	a.Job.MaxAttempts = 3
	for _, f := range edit {
		f(&a)
	}
	return s.runAttempt(t, routeTo(t, address, idempotent), a, worker.Options{})
}

func routeTo(t *testing.T, address string, idempotent bool) worker.Func {
	to, err := url.Parse(address)
	require.NoError(t, err)
	return worker.Route{Upstream: to, Idempotent: idempotent}.Func()
}

var get = job.Call{Method: "GET", Target: "/legacy/x"}

// The upstream gets the request as it was sent, to the byte, and who asks.
func TestRouteRequest(t *testing.T) {
	const target = "/legacy/a%2Fb/%C3%BC;p=1//x?a=%20&b=c+d;&&%zz=\xff"
	url, asked := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		require.Equal(t, "PATCH", r.Method)
		require.Equal(t, target, r.RequestURI)
		require.Equal(t, "<a/>", string(body))
		require.EqualValues(t, 4, r.ContentLength)
		require.Equal(t, http.Header{
			"Content-Type": {"text/xml"}, "Soapaction": {`"a"`}, "Accept-Encoding": {"br"}, "X-Raw": {"\xfc", "b"}, "Content-Length": {"4"}, "Connection": {"close"},
			"Millstream-Job": {"job_01k3z9qv3sf1b8w6t6e2m0x4ya"}, "Millstream-Attempt": {"1"},
		}, r.Header)
	})
	var s sink
	_, err := s.route(t, url, false, job.Call{Method: "PATCH", Target: target, Header: job.Header{
		"Content-Type": {"text/xml"}, "SOAPAction": {`"a"`}, "Accept-Encoding": {"br"}, "X-Raw": {"\xfc", "b"},
	}}, "<a/>")
	require.NoError(t, err)
	require.EqualValues(t, 1, asked.Load())
}

func TestRouteWithoutACall(t *testing.T) {
	var s sink
	_, err := s.runAttempt(t, routeTo(t, "http://127.0.0.1:1", false), s.attempt(""), worker.Options{})
	requireProblem(t, err, "invalid-input", false)
}

// Whatever the upstream says is its answer, and the job's result.
func TestRouteAnyAnswerIsTheResult(t *testing.T) {
	large := strings.Repeat("\x00\xff\n", 1<<20)
	for _, tt := range []struct {
		status                  int
		contentType, body, data string
	}{
		{200, "application/json", `{"a": 1}`, `{"result":{"a":1}}`},
		{201, "text/plain", "done", `{"result":"done"}`},
		{204, "", "", ""},
		{302, "", "", ""},
		{304, "", "", ""},
		{404, "application/json", `{"a":1}`, ""},
		{500, "text/xml", "<Fault/>", ""},
		{502, "text/html", "<p>", ""},
		{200, "image/png", large, ""},
		{200, "no type", "x", ""},
	} {
		url, asked := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Own", "\xfc")
			w.Header().Set("Set-Cookie", "a=b")
			w.Header()["Content-Type"] = nil
			if tt.contentType != "" {
				w.Header().Set("Content-Type", tt.contentType)
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		var s sink
		out, err := s.route(t, url, true, get, "")
		require.NoError(t, err)
		require.True(t, bytes.Equal([]byte(tt.body), s.body(out)))
		answer := out.Record.Private.Result.Answer
		require.Equal(t, tt.status, answer.Status)
		require.Equal(t, []string{"\xfc"}, answer.Header["X-Own"])
		require.Empty(t, answer.Header["Set-Cookie"])
		if tt.contentType == "" {
			require.Empty(t, answer.Header["Content-Type"])
		} else {
			require.Equal(t, []string{tt.contentType}, answer.Header["Content-Type"])
		}
		switch {
		case tt.data != "":
			require.Equal(t, tt.data, string(out.Record.Data))
		default:
			require.Contains(t, string(out.Record.Data), `"href"`)
		}
		require.EqualValues(t, 1, asked.Load())
	}
}

// Of a server that is busy another attempt is asked, if there is one to come, and if it would
// be in time.
func TestRouteAsksABusyUpstreamAgain(t *testing.T) {
	for _, status := range []int{429, 503} {
		url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "busy")
		})
		var s sink
		_, err := s.route(t, url, false, get, "")
		p := requireProblem(t, err, "upstream-status", true)
		require.Equal(t, 7*time.Second, p.RetryAfter)
		for name, edit := range map[string]func(*worker.Attempt){
			"the last attempt": func(a *worker.Attempt) { a.Job.Attempt = 3 },
			"no time left":     func(a *worker.Attempt) { a.Job.Request.Deadline = time.Now().Add(6 * time.Second) },
		} {
			s = sink{}
			out, err := s.route(t, url, false, get, "", edit)
			require.NoError(t, err, name)
			require.Equal(t, status, out.Record.Private.Result.Answer.Status)
			require.Equal(t, []string{"7"}, out.Record.Private.Result.Answer.Header["Retry-After"])
			require.Equal(t, "busy", string(s.body(out)))
		}
	}
}

func TestRouteThatCannotConnect(t *testing.T) {
	var s sink
	_, err := s.route(t, "http://"+nobody(t), false, get, "")
	p := requireProblem(t, err, "upstream-failed", true)
	require.NotContains(t, p.Detail, "127.0.0.1", "addresses are not for clients")
}

// What breaks once the request was sent is sent again only if it is idempotent, a GET too.
func TestRouteThatBreaks(t *testing.T) {
	for name, text := range map[string]string{
		"no answer":           "",
		"half a header":       "HTTP/1.1 200 OK\r\nContent-",
		"headers without end": "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 40<<10) + "\r\n\r\n",
		"half a body":         "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nhalf",
		"half a fault":        "HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nhalf",
		"half a chunked body": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		"half a stream":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\nb\r\ndata: one\n\n\r\n",
		"half of the lines":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/jsonl\r\n\r\n4\r\none\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := upstream(t, hangUp(text))
			var s sink
			out, err := s.route(t, url, false, get, "")
			requireProblem(t, err, "outcome-unknown", false)
			require.Zero(t, out)
			require.EqualValues(t, 1, asked.Load())
			_, err = s.route(t, url, true, get, "")
			requireProblem(t, err, "upstream-failed", true)
		})
	}
}

// Tokens are shown one by one, and the bytes of all of them are the result.
func TestRouteEventStream(t *testing.T) {
	stored := make(chan job.Record, 10)
	var sent bytes.Buffer
	url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, e := range []struct{ frame, typ, data string }{
			{": hello\r\nretry: 5\n\nid: 1\nevent: token\ndata: {\"a\": 1}\n\n", "token", `{"a":1}`},
			{"data:  42\n\n", "upstream.message", `" 42"`},
			{"event: job.progress\ndata: {\"progress\":1}\n\n", "job.progress", `{"progress":1}`},
			{"data: [DONE]\n\n", "upstream.message", `"[DONE]"`},
		} {
			_, _ = io.WriteString(io.MultiWriter(w, &sent), e.frame)
			w.(http.Flusher).Flush()
			r := <-stored // each is relayed before the next is sent
			require.Equal(t, e.typ, string(r.Type))
			require.Equal(t, e.data, string(r.Data))
		}
	})
	s := sink{onRecord: func(r job.Record) { stored <- r }}
	out, err := s.route(t, url, false, get, "")
	require.NoError(t, err)
	require.Equal(t, sent.String(), string(s.body(out)))
	require.Equal(t, "text/event-stream; charset=utf-8", out.Record.Private.Result.Type)
}

func TestRouteLines(t *testing.T) {
	const body = `{"type":"job.progress","data":{"progress":1}}` + "\r\n\n" + `{"delta":"Hi"}` + "\nno JSON"
	url, _ := upstream(t, answer("application/x-ndjson", body))
	var s sink
	out, err := s.route(t, url, false, get, "")
	require.NoError(t, err)
	require.Equal(t, []string{`{"progress":1}`}, s.data(job.Progress))
	require.Equal(t, "{\"delta\":\"Hi\"}\nno JSON\n", string(s.output(t)))
	require.Equal(t, body, string(s.body(out)))
	require.False(t, out.Record.Private.Result.Output)
}

// A body that is not what its type has it, or that nobody here can read, is the answer all
// the same.
func TestRouteAnswersThatAreNotRelayed(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "data: 1\n\n")
	require.NoError(t, z.Close())
	for _, tt := range []struct {
		status         int
		encoding, body string
		events         int
	}{
		{200, "gzip", zipped.String(), 0},
		{200, "br", "data: 1\n\n", 0},
		{500, "", "data: 1\n\n", 0},
		{200, "", "data: 1\n\ndata: half", 1},
		{200, "", "data: 1\n\ndata: " + strings.Repeat("x", 2<<20) + "\n\ndata: 2\n\n", 1},
	} {
		url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			if tt.encoding != "" {
				w.Header().Set("Content-Encoding", tt.encoding)
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		var s sink
		out, err := s.route(t, url, false, get, "")
		require.NoError(t, err)
		require.Len(t, s.of("upstream.message"), tt.events)
		require.True(t, tt.body == string(s.body(out)))
		if tt.encoding != "" || tt.status != 200 {
			require.Contains(t, string(out.Record.Data), `"href"`, "not as a text")
		}
	}
}

// Who cancels a job, or a time that is up, ends the request.
func TestRouteEndOfTheAttempt(t *testing.T) {
	for _, begun := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := make(chan struct{})
		url, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			if begun {
				_, _ = io.WriteString(w, "half of")
				_ = http.NewResponseController(w).Flush()
			}
			cancel(job.ErrCanceled)
			<-r.Context().Done()
			close(gone)
		})
		var s sink
		a := s.attempt("")
		a.Call = &get
		_, err := worker.Run(ctx, routeTo(t, url, true), a, worker.Options{})
		require.ErrorIs(t, err, job.ErrCanceled)
		<-gone
	}
}

func TestRouteStopOfTheServer(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		ctx, stop := context.WithCancelCause(t.Context())
		url, _ := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
			stop(job.ErrDraining)
			<-r.Context().Done()
		})
		var s sink
		a := s.attempt("")
		a.Call = &get
		_, err := worker.Run(ctx, routeTo(t, url, idempotent), a, worker.Options{})
		require.ErrorIs(t, err, job.ErrDraining)
		require.Equal(t, !idempotent, errors.Is(err, job.Problemf("outcome-unknown", "")))
	}
}

func TestRouteAnswerThatCannotBeStored(t *testing.T) {
	url, _ := upstream(t, answer("text/plain", strings.Repeat("x", 2*worker.MaxPiece)))
	for _, idempotent := range []bool{false, true} {
		broken := errors.New("the store is broken")
		s := sink{attach: func([]byte) error { return broken }}
		_, err := s.route(t, url, idempotent, get, "")
		require.ErrorIs(t, err, broken)
		require.Equal(t, !idempotent, errors.Is(err, job.Problemf("outcome-unknown", "")))
	}
	var s sink
	a := s.attempt("")
	a.Call = &get
	_, err := s.runAttempt(t, routeTo(t, url, false), a, worker.Options{Limits: worker.Limits{Result: 1000}})
	requireProblem(t, err, "invalid-result", false)
}

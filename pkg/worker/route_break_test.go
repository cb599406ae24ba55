package worker_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// Of a connection that speaks another protocol nobody knows where an answer ends, and a status
// that is none could not be replayed. An attempt neither waits for the one nor stores the other.
func TestAnswersThatAreNone(t *testing.T) {
	for _, status := range []string{"101 Switching Protocols", "099 Odd", "000 Odd"} {
		stop := make(chan struct{})
		url, asked := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			require.NoError(t, err)
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nabc")
			gone := make(chan struct{})
			go func() { _, _ = io.Copy(io.Discard, conn); close(gone) }()
			select {
			case <-gone:
			case <-stop:
			}
		})
		var s sink
		_, err := s.route(t, url, false, get, "")
		requireProblem(t, err, "outcome-unknown", false)
		_, err = s.runAttempt(t, worker.HTTP{URL: url}.Func(), s.attempt("{}"), worker.Options{})
		requireProblem(t, err, "outcome-unknown", false)
		require.EqualValues(t, 2, asked.Load())
		close(stop)
	}
}

// An answer is replayed from elsewhere, so where it points is told from there.
func TestRoutePlacesOfAnAnswer(t *testing.T) {
	for location, want := range map[string]string{
		"done": "/legacy/a%2Fb/done", "../x?y=1#z": "/legacy/x?y=1#z", "?page=2": "/legacy/a%2Fb/c?page=2", "/done": "/done", "http://elsewhere/x": "http://elsewhere/x",
		"//elsewhere/x": "//elsewhere/x", "": "", "a:b": "a:b", "%zz": "%zz",
	} {
		url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", location)
			w.Header().Set("Content-Location", location)
			w.WriteHeader(303)
		})
		var s sink
		out, err := s.route(t, url, false, job.Call{Method: "GET", Target: "/legacy/a%2Fb/c?q"}, "")
		require.NoError(t, err)
		for _, name := range []string{"Location", "Content-Location"} {
			require.Equal(t, []string{want}, out.Record.Private.Result.Answer.Header[name], location)
		}
	}
}

// What a redirect says of where it goes does not matter to who does not go there.
func TestRedirectsThatNobodyCanFollow(t *testing.T) {
	for _, status := range []int{302, 307} {
		url, asked := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%zz")
			w.WriteHeader(status)
		})
		var s sink
		_, err := s.runAttempt(t, worker.HTTP{URL: url}.Func(), s.attempt("{}"), worker.Options{})
		requireProblem(t, err, "upstream-status", false)
		_, err = s.route(t, url, false, get, "x")
		require.NoError(t, err)
		require.EqualValues(t, 2, asked.Load())
	}
}

func TestAddressWithCredentials(t *testing.T) {
	url, _ := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		require.Equal(t, "me:pass", user+":"+password)
	})
	var s sink
	_, err := s.runAttempt(t, worker.HTTP{URL: strings.Replace(url, "//", "//me:pass@", 1)}.Func(), s.attempt("{}"), worker.Options{})
	require.NoError(t, err)
}

func TestRouteHead(t *testing.T) {
	url, _ := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "HEAD", r.Method)
		w.Header().Set("Content-Length", "1234")
	})
	var s sink
	out, err := s.route(t, url, false, job.Call{Method: "HEAD", Target: "/legacy/x"}, "")
	require.NoError(t, err)
	require.Equal(t, []string{"1234"}, out.Record.Private.Result.Answer.Header["Content-Length"])
	require.Empty(t, s.body(out))
}

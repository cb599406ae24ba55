package millstream_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/millstream"
)

// For as long as work takes to end, whoever comes to a server that stops is told so by
// the server itself, on connections old and new; then nobody is let in.
func TestDrainAnswers(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	slow := millstream.Func("slow", func(context.Context, *millstream.Task) (any, error) {
		close(begun)
		<-finish
		return "done", nil
	})
	url, stop := start(t, millstream.Config{Data: t.TempDir()}, slow)
	live := url + do(t, "POST", url+"/v1/kinds/slow/jobs?priority=low", "", "Prefer", "respond-async").Header.Get("Location")
	<-begun
	open := do(t, "GET", live+"/events", "")
	first, err := bufio.NewReader(open.Body).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, first, "retry: ")
	kept, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	defer kept.Close()
	in := bufio.NewReader(kept)
	_, err = io.WriteString(kept, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") // one that has asked for nothing yet has 5 s to do so
	require.NoError(t, err)
	alive, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, alive.StatusCode)
	require.NoError(t, alive.Body.Close())

	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	require.Contains(t, read(t, open), `"reason":"drain"`)
	_, err = io.WriteString(kept, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(in)
	require.NoError(t, err, "its connection ends in order")
	require.Contains(t, string(answer), "503 Service Unavailable")
	for range 2 {
		for _, path := range []string{"/v1/kinds/slow/jobs", "/v1/jobs"} {
			resp := do(t, "POST", url+path, `{"kind":"slow","input":1}`, "Content-Type", "application/json", "Accept", "text/event-stream")
			require.Equal(t, 503, resp.StatusCode)
			require.Contains(t, read(t, resp), "/problems/draining")
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
			require.True(t, resp.Close)
		}
		for path, want := range map[string]int{"": 200, "/result": 202, "/events?format=json&after=latest": 200} {
			resp := do(t, "GET", live+path, "", "Prefer", "wait=30")
			require.Equal(t, want, resp.StatusCode, path)
			require.True(t, resp.Close)
		}
		again := do(t, "GET", live+"/events", "")
		require.Equal(t, 200, again.StatusCode)
		said := read(t, again)
		require.Contains(t, said, "event: job.running\n")
		require.Regexp(t, `retry: \d+\nevent: stream.end\ndata: .*"reason":"drain".*\nid: 2-`, said)
	}
	select {
	case <-stopped:
		require.Fail(t, "it did not wait for its work")
	default:
	}
	close(finish)
	<-stopped
	_, err = net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.Error(t, err)
}

// Who connects and says nothing, or not all, cannot make a stop take longer, or fail.
func TestDrainIsNotHeldUp(t *testing.T) {
	url, stop := start(t, millstream.Config{Drain: 300 * time.Millisecond}, greet)
	for _, sent := range []string{"", "GET /livez HTT", "POST /v1/kinds/greet/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, sent)
		require.NoError(t, err)
	}
	require.Equal(t, http.StatusOK, do(t, "GET", url+"/livez", "").StatusCode) // behind them all
	stop()
}

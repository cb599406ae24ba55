package millstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millstream/millstream/pkg/millstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server until the test ends, and returns its URL and what stops it.
func start(t *testing.T, c millstream.Config, kinds ...millstream.Kind) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	c.Listen, c.Ready = "127.0.0.1:0", func(url string) { ready <- url }
	if c.Data == "" {
		c.Data = millstream.Memory
	}
	go func() { done <- millstream.New(c, kinds...).Run(ctx) }()
	select {
	case url = <-ready:
	case err := <-done:
		cancel()
		require.FailNow(t, "no server", "%v", err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
	}
	t.Cleanup(stop)
	return url, stop
}

func do(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// volatile is what differs from run to run.
var volatile = regexp.MustCompile(`job_[0-9a-z]{26}|\d{4}-\d\d-\d\dT[0-9:.]+Z|retry: \d+|"worker":"[0-9a-f]+"`)

func normalize(s string) string {
	return volatile.ReplaceAllStringFunc(s, func(m string) string {
		switch {
		case strings.HasPrefix(m, "job_"):
			return "JOB"
		case strings.HasPrefix(m, "retry"):
			return "retry: N"
		case strings.HasPrefix(m, `"worker"`):
			return `"worker":"W"`
		}
		return "TIME"
	})
}

var greet = millstream.Func("greet", func(_ context.Context, t *millstream.Task) (any, error) {
	t.Progress(1, 2, "thinking")
	if err := t.Emit("greeting", map[string]string{"to": string(t.Input())}); err != nil {
		return nil, err
	}
	return "hello " + string(t.Input()), nil
})

const wire = `retry: N
event: job.queued
data: {"id":"1-1-1","seq":1,"type":"job.queued","job":"JOB","attempt":1,"time":"TIME","data":{"kind":"greet","run_at":null,"attempt":1,"reason":"submitted"}}
id: 1-1-1

event: job.running
data: {"id":"2-2-1","seq":2,"type":"job.running","job":"JOB","attempt":1,"time":"TIME","data":{"attempt":1,"worker":"W","timeout_at":"TIME"}}
id: 2-2-1

event: job.progress
data: {"id":"3-3-1","seq":3,"type":"job.progress","job":"JOB","attempt":1,"time":"TIME","data":{"progress":1,"total":2,"message":"thinking"}}
id: 3-3-1

event: greeting
data: {"id":"4-3-1","seq":4,"type":"greeting","job":"JOB","attempt":1,"time":"TIME","data":{"to":"world"}}
id: 4-3-1

event: job.succeeded
data: {"id":"5-4-1","seq":5,"type":"job.succeeded","job":"JOB","attempt":1,"time":"TIME","data":{"result":"hello world"}}
id: 5-4-1

`

// joined makes the ids of a transcript those of the golden one: the epoch is the
// time of the start, and whether two events lie in one message is a matter of moments.
func joined(s string) string {
	return regexp.MustCompile(`\b[1-5]-[1-5]-\d{8,}\b`).ReplaceAllStringFunc(s, func(id string) string {
		return map[string]string{"1": "1-1-1", "2": "2-2-1", "3": "3-3-1", "4": "4-3-1", "5": "5-4-1"}[id[:1]]
	})
}

// One job from POST to its last event, on every store.
func TestOneJob(t *testing.T) {
	for _, data := range []string{millstream.Memory, t.TempDir()} {
		url, _ := start(t, millstream.Config{Data: data}, greet)
		resp := do(t, "POST", url+"/v1/kinds/greet/jobs", "world", "Content-Type", "text/plain")
		require.Equal(t, 202, resp.StatusCode, read(t, resp))
		events := url + resp.Header.Get("Location") + "/events"
		first := read(t, do(t, "GET", events, ""))
		require.Equal(t, wire, joined(normalize(first)))
		require.Equal(t, wire, joined(normalize(read(t, do(t, "GET", events, "")))), "after the end as before")

		id := regexp.MustCompile(`(?m)^id: (3-.*)$`).FindStringSubmatch(first)[1]
		rest := read(t, do(t, "GET", events, "", "Last-Event-ID", id))
		_, behind, _ := strings.Cut(wire, "id: 3-3-1\n\n")
		require.Equal(t, "retry: N\n"+behind, joined(normalize(rest)))
		last := regexp.MustCompile(`(?m)^id: (5-.*)$`).FindStringSubmatch(first)[1]
		require.Equal(t, 204, do(t, "GET", events, "", "Last-Event-ID", last).StatusCode)
		require.Equal(t, "hello world", read(t, do(t, "GET", url+resp.Header.Get("Location")+"/result", "")))
	}
}

func TestStopWithOpenStreams(t *testing.T) {
	begun := make(chan struct{})
	endless := millstream.Func("endless", func(ctx context.Context, _ *millstream.Task) (any, error) {
		close(begun)
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})
	endless.Grace = 9500 * time.Millisecond
	dir := t.TempDir()
	url, stop := start(t, millstream.Config{Data: dir, Drain: 10 * time.Second}, endless)
	resp := do(t, "POST", url+"/v1/kinds/endless/jobs", "")
	job := url + resp.Header.Get("Location")
	var streams []*bufio.Reader
	for range 20 {
		s := bufio.NewReader(do(t, "GET", job+"/events", "").Body)
		_, err := s.ReadString('\n')
		require.NoError(t, err)
		streams = append(streams, s)
	}
	<-begun
	stop()
	for _, s := range streams {
		rest, err := io.ReadAll(s)
		require.NoError(t, err, "a clean end")
		require.Contains(t, string(rest), "event: stream.end\n")
		require.Contains(t, string(rest), `"reason":"drain"`)
	}

	again := make(chan struct{})
	done := millstream.Func("endless", func(context.Context, *millstream.Task) (any, error) { close(again); return nil, nil })
	url2, _ := start(t, millstream.Config{Data: dir}, done)
	<-again
	events := read(t, do(t, "GET", strings.Replace(job, url, url2, 1)+"/events", ""))
	require.Contains(t, events, `"reason":"drain"`)
	require.Contains(t, events, "event: job.succeeded\n")
	require.NotContains(t, events, `"attempt":2`, "handing back costs no attempt")
}

func TestConfigIsChecked(t *testing.T) {
	for _, kinds := range [][]millstream.Kind{
		{millstream.Func("a.b", nil)},
		{millstream.Func("a", nil)},
		{greet, greet},
	} {
		err := millstream.New(millstream.Config{Data: millstream.Memory, Listen: "127.0.0.1:0"}, kinds...).Run(t.Context())
		require.ErrorContains(t, err, "kind")
	}
}

func TestOneProcessAStore(t *testing.T) {
	dir := t.TempDir()
	start(t, millstream.Config{Data: dir}, greet)
	err := millstream.New(millstream.Config{Data: dir, Listen: "127.0.0.1:0"}, greet).Run(t.Context())
	require.ErrorContains(t, err, "another process uses it")
}

func TestSamples(t *testing.T) {
	url, _ := start(t, millstream.Config{}, millstream.Samples()...)
	var text bytes.Buffer
	for i := range 100 {
		fmt.Fprintf(&text, "the quick brown fox %d\n", i%3)
	}
	resp := do(t, "POST", url+"/v1/kinds/wordcount/jobs", text.String(), "Content-Type", "text/plain", "Prefer", "wait=10")
	body := read(t, resp)
	require.Equal(t, 200, resp.StatusCode, body)
	require.Contains(t, body, `"result":{"lines":100,"words":500,"bytes":2200,"top":[{"word":"brown","count":100}`)
	require.Equal(t, 422, do(t, "POST", url+"/v1/kinds/countdown/jobs", `{"from":-1}`, "Content-Type", "application/json").StatusCode)
}

// Who cannot have the address leaves the store alone.
func TestAddressTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	c := millstream.Config{Listen: ln.Addr().String(), Data: filepath.Join(t.TempDir(), "store")}
	require.ErrorContains(t, millstream.New(c).Run(t.Context()), "listen")
	require.NoDirExists(t, c.Data)
}

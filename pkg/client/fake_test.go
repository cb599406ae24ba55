package client_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testJob = job.ID("job_01k3z9aaaaaaaaaaaaaaaaaaaa")

// wire is a listener without a network: synctest knows when it is idle.
type wire struct {
	conns chan net.Conn
	down  chan struct{}
	close sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), down: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.down:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error {
	w.close.Do(func() { close(w.down) })
	return nil
}

func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.conns <- far:
		return near, nil
	case <-w.down:
		return nil, &net.OpError{Op: "dial", Err: net.ErrClosed}
	}
}

// serve returns a client of h and a way to stop what serves it.
func serve(t *testing.T, h http.Handler, o client.Options) (*client.Client, func()) {
	t.Helper()
	w := newWire()
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(w) }()
	transport := &http.Transport{DialContext: w.dial}
	o.HTTP = &http.Client{Transport: transport}
	c, err := client.New("http://millstream.test", &o)
	require.NoError(t, err)
	return c, func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
	}
}

// event returns the n-th event of a job that makes progress; the last of them
// ends it.
func event(n, last int) job.Event {
	e := job.Event{Job: testJob, Place: job.Place{Position: uint64(100 + n), Epoch: 1}}
	e.Record = job.Record{Seq: uint64(n), Type: job.Progress, Attempt: 1, Time: time.Unix(1e9, 0), Data: []byte(fmt.Sprintf(`{"progress":%d}`, n))}
	if n == last {
		e.Type, e.Data = job.Succeeded, []byte(`{"result":"done"}`)
	}
	return e
}

func frame(e job.Event) string {
	return fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", e.Cursor(), e.Type, e.AppendJSON(nil))
}

// begin answers with an open stream.
func begin(w http.ResponseWriter, retry time.Duration) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "retry: %d\n", retry.Milliseconds())
	w.(http.Flusher).Flush()
}

// after returns the number of the event that r resumes behind.
func after(r *http.Request) int {
	id := r.Header.Get("Last-Event-ID")
	if id == "" {
		id = r.URL.Query().Get("after")
	}
	c, _ := job.ParseCursor(id)
	return int(c.Seq)
}

// seen collects what a watch delivers, and the error it ends with.
func seen(ctx context.Context, c *client.Client, from string) (seqs []int, err error) {
	for e, err := range c.Events(ctx, testJob, from) {
		if err != nil {
			return seqs, err
		}
		seqs = append(seqs, int(e.Seq))
	}
	return seqs, nil
}

func upTo(n int) (s []int) {
	for i := 1; i <= n; i++ {
		s = append(s, i)
	}
	return s
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// boss is a server that hands out one lease, and keeps what is reported.
type boss struct {
	mu      sync.Mutex
	lose    int // answers that get lost, from the first on
	status  int // of every other answer, if it is an error
	cancel  bool
	input   string                                       // JSON; "": the text "in"
	asked   int                                          // for its input
	lost    bool                                         // its input is nobody's any more
	refuses func(said []job.Said, size int) *job.Problem // with its Status; may be nil
	heard   func(said []job.Said)                        // called with each report; may be nil
	reports [][]job.Said
}

func (b *boss) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.URL.Path == "/v1/leases" {
		_, _ = io.WriteString(w, `{"leases":[{"lease":"x","expires_at":"2100-01-01T00:00:00Z","timeout_at":"2100-01-01T00:00:00Z",`+
			`"job":{"id":"`+string(fakeID("leased"))+`","kind":"k","attempt":1,"max_attempts":3,`+b.lease()+`},"checkpoint":null}]}`)
		return
	}
	if r.URL.Path == "/v1/leases/x/input" {
		b.tellInput(w)
		return
	}
	var said []job.Said
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &said)
	if b.refuses != nil {
		if p := b.refuses(said, len(body)); p != nil {
			refuse(w, p.Status, p)
			return
		}
	}
	b.reports = append(b.reports, said)
	if b.heard != nil {
		b.heard(said)
	}
	switch {
	case len(b.reports) <= b.lose:
		panic(http.ErrAbortHandler)
	case b.status > 0:
		refuse(w, b.status, job.ErrLeaseLost)
	default:
		fmt.Fprintf(w, `{"expires_at":"2100-01-01T00:00:00Z","cancel":%v}`, b.cancel)
	}
}

// lease tells the input.
func (b *boss) lease() string {
	if b.input == "" {
		return `"input":"in","input_type":"text/plain"`
	}
	return `"input":` + b.input + `,"input_type":"application/json"`
}

// tellInput has the input when it is asked for a second time.
func (b *boss) tellInput(w http.ResponseWriter) {
	b.asked++
	switch {
	case b.asked == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
	case b.lost:
		refuse(w, http.StatusConflict, job.ErrLeaseLost)
	default:
		_, _ = io.WriteString(w, " "+b.input+" ")
	}
}

// reporter returns one of the boss's lease, and what ended its command.
func (b *boss) reporter(t *testing.T) (r *reporter, ended func() error) {
	t.Helper()
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, &client.Options{HTTP: srv.Client()})
	require.NoError(t, err)
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	ctx, end := context.WithCancelCause(t.Context())
	p := &puller{server: &remote{Client: c, address: srv.URL}, say: t.Logf, exec: worker.Exec{Command: []string{"cat"}}}
	return &reporter{puller: p, lease: leases[0], end: end}, func() error { return context.Cause(ctx) }
}

func outputRecord(chunk string) job.Record {
	return job.Record{Type: job.Output, Data: job.MustData(map[string]any{"index": 7, "chunk": chunk})}
}

// What may have been stored before its answer was lost is said again, with the place
// where it belongs.
func TestReporterRepeats(t *testing.T) {
	b := &boss{lose: 1}
	r, _ := b.reporter(t)
	require.NoError(t, r.Append(t.Context(), outputRecord("one\n"), outputRecord("zwölf\n")))
	require.NoError(t, r.Append(t.Context(), outputRecord("x")))
	require.Equal(t, b.reports[0], b.reports[1])
	require.Equal(t, `{"chunk":"one\n","offset":0}`, string(b.reports[1][0].Data))
	require.Equal(t, `{"chunk":"zwölf\n","offset":4}`, string(b.reports[1][1].Data))
	require.Equal(t, `{"chunk":"x","offset":11}`, string(b.reports[2][0].Data))
	events, bytes := r.Used()
	require.Equal(t, 3, events)
	require.Positive(t, bytes)
}

func TestReporterSaysNoMoreThanTheServerTakes(t *testing.T) {
	b := new(boss)
	r, _ := b.reporter(t)
	require.NoError(t, r.Append(t.Context(), make([]job.Record, 2*maxReport+1)...))
	require.Len(t, b.reports, 3)
	require.Len(t, b.reports[0], maxReport)
	require.Len(t, b.reports[2], 1)
}

func TestReporterLearns(t *testing.T) {
	b := &boss{cancel: true}
	r, ended := b.reporter(t)
	require.NoError(t, r.report(t.Context()))
	require.ErrorIs(t, ended(), job.ErrCanceled)
	b.status = http.StatusConflict
	require.ErrorIs(t, r.Append(t.Context(), outputRecord("x")), job.ErrLeaseLost)
}

func TestLastWords(t *testing.T) {
	result := func(r job.Result, piece string) worker.Outcome {
		return worker.Outcome{Record: job.Record{Private: &job.Private{Result: &r}}, Piece: []byte(piece)}
	}
	broken := job.Problemf("exit-status", "exit status 3")
	for _, c := range []struct {
		stopped bool
		out     worker.Outcome
		err     error
		typ     job.Type
		data    string
	}{
		{false, result(job.Result{Type: "text/plain", Output: true}, ""), nil, job.Succeeded, `{"output":true,"type":"text/plain"}`},
		{false, result(job.Result{Type: "application/json", Size: 7}, `{"a":1}`), nil, job.Succeeded, `{"encoding":"base64","result":"eyJhIjoxfQ==","type":"application/json"}`},
		{true, result(job.Result{Type: "image/png", Size: 2}, "\x00\x01"), nil, job.Succeeded, `{"encoding":"base64","result":"AAE=","type":"image/png"}`},
		{false, result(job.Result{}, ""), nil, job.Succeeded, `{"result":null}`},
		{false, worker.Outcome{}, broken, job.Failed, `{"error":{"detail":"exit status 3","retryable":false,"type":"/problems/exit-status"}}`},
		{false, worker.Outcome{}, job.ErrCanceled, job.Failed, `{"error":{"detail":"the job was canceled"}}`},
		{false, worker.Outcome{}, errors.New("no luck"), job.Failed, `{"error":{"detail":"no luck"}}`},
		{true, worker.Outcome{}, context.Canceled, job.Queued, ``},
		{false, worker.Outcome{}, fmt.Errorf("%w: %w", broken, job.ErrLeaseLost), "", ``},
	} {
		last := lastWord(c.stopped, c.out, c.err)
		require.Equal(t, c.typ, last.Type)
		require.Equal(t, c.data, string(last.Data))
	}
}

func TestWorkerRunsItsCommand(t *testing.T) {
	b := new(boss)
	r, _ := b.reporter(t)
	r.work(t.Context(), r.lease)
	require.Equal(t, job.Said{Type: job.Output, Data: []byte(`{"chunk":"in","offset":0}`)}, b.reports[0][0])
	require.Equal(t, []job.Said{{Type: job.Succeeded, Data: []byte(`{"output":true,"type":"text/plain; charset=utf-8"}`)}}, b.reports[1])
}

// What comes in is what was submitted, byte for byte, however long the server is away; if the
// job is somebody else's by then, nothing is done.
func TestWorkerAsksForItsInput(t *testing.T) {
	b := &boss{input: `{"a":1}`}
	r, _ := b.reporter(t)
	r.work(t.Context(), r.lease)
	require.Equal(t, job.Said{Type: job.Output, Data: []byte(`{"chunk":" {\"a\":1} ","offset":0}`)}, b.reports[0][0])
	require.Equal(t, job.Succeeded, b.reports[1][0].Type)

	b = &boss{input: `{"a":1}`, lost: true}
	r, _ = b.reporter(t)
	r.work(t.Context(), r.lease)
	require.Equal(t, 2, b.asked)
	require.Empty(t, b.reports)
}

// A worker that is told to stop keeps its lease for as long as its command takes to end.
func TestWorkerBeatsToTheEnd(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	end := filepath.Join(t.TempDir(), "end")
	b := new(boss)
	r, _ := b.reporter(t)
	r.lease.Life = time.Second
	r.exec = worker.Exec{Command: []string{"sh", "-c", `trap "" TERM; echo up; until [ -e ` + end + ` ]; do sleep 0.01; done; exit 3`}}
	b.heard = func(said []job.Said) {
		switch {
		case len(said) > 0: // it is up, and takes no notice; it may beat before
			stop()
		case ctx.Err() != nil:
			assert.NoError(t, os.WriteFile(end, nil, 0o600))
		}
	}
	r.work(ctx, r.lease)
	require.FileExists(t, end)
	require.Equal(t, []job.Said{{Type: job.Queued}}, b.reports[len(b.reports)-1])
}

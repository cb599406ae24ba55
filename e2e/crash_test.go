package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The crash test: kill -9 in the middle of a hundred jobs, each with a reader of
// every transport, again and again. Judged on nothing but what the clients wrote
// down: each job that was accepted ends once, and each reader has all of it.
func TestCrash(t *testing.T) {
	t.Parallel()
	jobs, kills := 100, 6
	if *soak {
		jobs, kills = 400, 20
	}
	t.Logf("seed %d", *seed)
	c := newCrash(t, rand.New(rand.NewPCG(*seed, 0)), jobs)
	for n := range kills {
		c.submit(jobs/kills*n, jobs/kills*(n+1))
		c.crash()
	}
	c.submit(jobs/kills*kills, jobs)
	c.submitters.Wait()
	c.readers.Wait()

	accepted, records := c.outcome()
	require.Empty(t, judge(accepted, records))
	for _, id := range accepted {
		require.Equal(t, "succeeded", c.server.job(id).Status)
	}
	events := 0
	for _, r := range records {
		events += len(r.events)
	}
	t.Logf("%d jobs, %d readers, %d kills, %d events read: 0 lost, 0 doubled", len(accepted), len(records), kills, events)
}

// crash is a server that is killed, its submitters and its readers.
type crash struct {
	t      *testing.T
	server *server
	rand   *rand.Rand      // of the test's goroutine
	ctx    context.Context // of all clients

	submitters, readers sync.WaitGroup
	seen                atomic.Int64 // events, by all readers

	mu       sync.Mutex
	accepted []string
	watching []*reader
}

// newCrash starts a server with two kinds of work: a command that writes lines,
// and an upstream that streams tokens. Both may be repeated as often as it
// crashes.
func newCrash(t *testing.T, r *rand.Rand, jobs int) *crash {
	up := httptest.NewServer(http.HandlerFunc(tell))
	t.Cleanup(up.CloseClientConnections)
	c := &crash{t: t, rand: r}
	c.server = start(t, object{
		"limits": object{"streams": 10 * jobs},
		"kinds": object{
			"lines": object{"max_attempts": 1000, "concurrency": 10, "exec": object{"command": []string{
				"sh", "-c", `for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo "line $n"; sleep 0.02; done`,
			}}},
			"tokens": object{"max_attempts": 1000, "concurrency": 10, "http": object{"url": up.URL, "idempotent": true}},
		},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	t.Cleanup(cancel)
	c.ctx = ctx
	return c
}

// submit begins to submit the jobs from..to, all at once, and a reader of each
// transport for each that is accepted.
func (c *crash) submit(from, to int) {
	for n := from; n < to; n++ {
		seed := c.rand.Uint64()
		c.submitters.Go(func() {
			id := c.insist([]string{"lines", "tokens"}[n%2])
			c.mu.Lock()
			defer c.mu.Unlock()
			c.accepted = append(c.accepted, id)
			for i, name := range slices.Sorted(maps.Keys(transports)) {
				c.read(id, transports[name], rand.New(rand.NewPCG(seed, uint64(i))))
			}
		})
	}
}

// insist submits until a job is accepted. One whose answer was lost may be done
// too; nobody was told of it, so nobody watches it.
func (c *crash) insist(kind string) (id string) {
	for again := time.NewTicker(20 * time.Millisecond); ; {
		if id, err := c.submitOnce(kind); err == nil {
			return id
		}
		select {
		case <-again.C:
		case <-c.ctx.Done():
			return "never accepted"
		}
	}
}

func (c *crash) submitOnce(kind string) (id string, err error) {
	body := fmt.Sprintf(`{"kind":%q,"input":{}}`, kind)
	resp, err := send(c.ctx, c.server.base, "POST", "/v1/jobs", strings.NewReader(body), "Content-Type", "application/json")
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusAccepted {
		return "", errors.New(resp.Status)
	}
	var j jobState
	err = json.NewDecoder(resp.Body).Decode(&j)
	return j.ID, err
}

// read starts a reader that hangs up now and then. The caller holds mu.
func (c *crash) read(id string, way transport, r *rand.Rand) {
	one := &reader{
		record: record{job: id}, base: c.server.base, way: way, seen: &c.seen,
		hang: func() bool { return r.IntN(20) == 0 },
	}
	c.watching = append(c.watching, one)
	c.readers.Go(func() { one.follow(c.ctx) })
}

// crash kills the server somewhere in the middle of things, and starts it again.
func (c *crash) crash() {
	const most = 600 // events: fewer than the readers of one more wave of jobs get
	until := c.seen.Load() + c.rand.Int64N(most)
	eventually(c.t, "the work goes on", func() bool { return c.seen.Load() >= until })
	c.server.kill()
	out, err := c.server.offline("verify")
	require.NoError(c.t, err, "a kill damages nothing: %s", out)
	c.server.boot()
}

// outcome returns what was accepted and what the readers wrote down.
func (c *crash) outcome() (accepted []string, records []record) {
	for _, r := range c.watching {
		records = append(records, r.record)
	}
	return c.accepted, records
}

// tell is an upstream that streams twenty tokens.
func tell(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for n := range 20 {
		_, _ = fmt.Fprintf(w, "event: token\ndata: {\"n\":%d}\n\n", n)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	}
}

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// misplaced says what is wrong with the events of many jobs, of which each has so many: each
// must be there once, those of a job with no hole, and all in the order of the log.
func misplaced(events []event, jobs []string, each int) (complaints []string) {
	var position, seq uint64
	of := map[string]int{}
	for _, e := range events {
		var p, s, epoch uint64
		_, err := fmt.Sscanf(e.ID, "%d-%d-%d", &s, &p, &epoch)
		if err != nil || p < position || p == position && s <= seq {
			complaints = append(complaints, fmt.Sprintf("%s comes behind %d-%d", e.ID, seq, position))
		}
		position, seq = p, s
		if of[e.Job]++; e.Seq != uint64(of[e.Job]) {
			complaints = append(complaints, fmt.Sprintf("seq %d of %s, where %d belongs", e.Seq, e.Job, of[e.Job]))
		}
	}
	for _, id := range jobs {
		if of[id] != each {
			complaints = append(complaints, fmt.Sprintf("%d events of %s", of[id], id))
		}
		delete(of, id)
	}
	for id := range of {
		complaints = append(complaints, id+" was not asked for")
	}
	return complaints
}

// A stream of 500 jobs that is cut a hundred times, and comes back on another transport each
// time, brings each event of these jobs once, in the order of the log. So does one that
// names them when all are over, and that one ends; and that the server is killed is one of
// the cuts.
func TestManyJobs(t *testing.T) {
	t.Parallel()
	const jobs, each, cuts = 500, 10, 100
	said := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := range each - 3 { // beside those that it is queued, runs, and has ended
			_, _ = fmt.Fprintf(w, "event: step\ndata: %d\n\n", n)
		}
	}))
	t.Cleanup(said.Close)
	kind := object{"http": object{"url": said.URL}}
	s := start(t, object{"kinds": object{"steps": kind, "other": kind}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	random := rand.New(rand.NewPCG(*seed, 1))
	t.Logf("seed %d", *seed)
	left := random.IntN(2*jobs*each/cuts) + 1
	hang := func() bool {
		left--
		if left > 0 {
			return false
		}
		left = random.IntN(2*jobs*each/cuts) + 1
		return true
	}
	r := &reader{base: s.base, many: &many{query: "tag=nightly&kind=steps"}, seen: new(atomic.Int64)}
	r.hang = func() bool { return len(r.events) == jobs*each || hang() } // this stream has no end of its own
	_ = r.readPage(ctx)
	begin := r.many.at
	require.NotEmpty(t, begin, "there are no jobs yet, and there is a place to go on from")

	var bodies []string
	for n := range jobs {
		bodies = append(bodies, `{"kind":"steps","input":null,"tags":["nightly","x"]}`)
		if n%10 == 0 {
			bodies = append(bodies, `{"kind":"other","input":null,"tags":["nightly"]}`)
		}
	}
	var ids []string
	for some := range slices.Chunk(bodies, 100) {
		var batch struct{ Jobs []jobState }
		a := s.ask("POST", "/v1/jobs", strings.NewReader("["+strings.Join(some, ",")+"]"), "Content-Type", "application/json")
		require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
		a.into(t, &batch)
		for _, j := range batch.Jobs {
			if j.Kind == "steps" {
				ids = append(ids, j.ID)
			}
		}
	}
	require.Len(t, ids, jobs)
	ways := []string{"sse", "ndjson", "page", "socket"}
	times := 0
	for ; len(r.events) < jobs*each && len(r.surprises) == 0 && ctx.Err() == nil; times++ {
		_ = transports[ways[times%len(ways)]](r, ctx)
	}
	require.Empty(t, r.surprises)
	require.Empty(t, misplaced(r.events, ids, each))
	require.GreaterOrEqual(t, times, cuts/2)
	t.Logf("%d events of %d jobs, in %d pieces", len(r.events), jobs, times)

	s.kill()
	s.boot()
	named := &reader{base: s.base, many: &many{query: "job=" + strings.Join(ids, ","), at: begin}, hang: hang, seen: new(atomic.Int64)}
	for n := 0; !named.over && len(named.surprises) == 0 && ctx.Err() == nil; n++ {
		_ = transports[ways[n%len(ways)]](named, ctx)
	}
	require.Empty(t, named.surprises)
	require.True(t, named.over)
	require.Empty(t, misplaced(named.events, ids, each))
	require.Equal(t, http.StatusNoContent, s.ask("GET", "/v1/events?job="+strings.Join(ids, ",")+"&after="+named.many.at, nil).Status)
}

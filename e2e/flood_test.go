package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// flooded is a server of which one kind is stuck: two of its jobs run until open is
// called, and five wait.
type flooded struct {
	*server
	jobs []string
	gate string
}

func (f *flooded) open() { require.NoError(f.t, os.WriteFile(f.gate, nil, 0o600)) }

// submitStuck asks for a job of the kind that is stuck, with more members if there are any.
func (f *flooded) submitStuck(more string) answer {
	return f.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"stuck","input":null`+more+`}`), "Content-Type", "application/json")
}

// depth returns how many jobs of a kind wait and how many run.
func (c client) depth(kind string) []int {
	c.t.Helper()
	var k struct{ Queue struct{ Queued, Running int } }
	c.ask("GET", "/v1/kinds/"+kind, nil).into(c.t, &k)
	return []int{k.Queue.Queued, k.Queue.Running}
}

// flood submits more than there is room for, all at once.
func flood(t *testing.T) *flooded {
	gate := filepath.Join(t.TempDir(), "gate")
	f := &flooded{gate: gate, server: start(t, object{"kinds": object{
		"stuck": object{"concurrency": 2, "queue": 5, "exec": object{"command": []string{"sh", "-c", `until [ -e "$0" ]; do sleep 0.05; done`, gate}}},
		"quick": object{"concurrency": 1, "queue": 1, "exec": object{"command": []string{"cat"}}},
	}})}
	for range 2 {
		f.jobs = append(f.jobs, f.accepted(f.submitStuck("")).ID)
	}
	for _, id := range f.jobs {
		f.until(id, "running")
	}
	answers := make([]answer, 40)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = f.submitStuck([]string{"", `,"delay":"1s"`}[i%2]) })
	}
	wg.Wait()
	for _, a := range answers {
		if a.Status == http.StatusAccepted {
			f.jobs = append(f.jobs, f.accepted(a).ID)
		} else {
			requireFull(t, a)
		}
	}
	require.Len(t, f.jobs, 2+5, "as many as there is room for")
	require.Equal(t, []int{5, 2}, f.depth("stuck"))
	return f
}

// requireFull requires the answer of a queue that is full: come back then.
func requireFull(t *testing.T, a answer) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, a.Status, "%s", a.Body)
	after, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, after)
	var p problem
	a.into(t, &p)
	require.Equal(t, "/problems/queue-full", p.Type)
}

// A kind whose queue is full and whose workers are all stuck is refused more, and no
// other kind is: its jobs are taken and done as if there were no flood.
func TestFloodOfOneKind(t *testing.T) {
	t.Parallel()
	f := flood(t)
	for i := range 20 {
		a := f.ask("POST", "/v1/jobs", strings.NewReader(fmt.Sprintf(`{"kind":"quick","input":%d}`, i)), "Content-Type", "application/json", "Prefer", "wait=30")
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		var j jobState
		a.into(t, &j)
		require.Equal(t, "succeeded", j.Status)
		var said string
		require.NoError(t, json.Unmarshal(j.Result, &said))
		require.Equal(t, fmt.Sprint(i), said)
	}
	require.Equal(t, []int{5, 2}, f.depth("stuck"), "all that while")
	requireFull(t, f.submitStuck(""))
	f.open()
	for _, id := range f.jobs {
		f.until(id, "succeeded")
	}
	f.accepted(f.submitStuck(""))
}

// A queue that is full is full after a restart too, also with more than the limit: those
// that ran are back in it. None is lost.
func TestFloodOverAKill(t *testing.T) {
	t.Parallel()
	f := flood(t)
	f.kill()
	f.boot()
	requireFull(t, f.submitStuck(""))
	f.accepted(f.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"quick","input":1}`), "Content-Type", "application/json"))
	f.open()
	for _, id := range f.jobs {
		f.until(id, "succeeded")
	}
	f.accepted(f.submitStuck(""))
}

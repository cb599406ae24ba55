package e2e

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A worker is killed every 200 ms, at random, and another takes its place, until all
// jobs are done: each job has one end, nothing is doubled, and what a dead worker held
// waits for the next within the lease and two seconds, but for moments in which the machine
// stalls.
func TestMortalPullWorkers(t *testing.T) {
	t.Parallel()
	jobs := 60
	if *soak {
		jobs = 500
	}
	const lease = 2 * time.Second
	s := start(t, object{"kinds": object{"count": object{"pull": object{}, "lease": lease.String(), "max_attempts": 100, "backoff": object{"first": "10ms"}}}})
	t.Logf("seed %d", *seed)
	crew := &mortals{server: s, rand: rand.New(rand.NewPCG(*seed, 2)), python: interpreter(t), killed: map[string]time.Time{}}
	for range 6 {
		crew.hire()
	}
	var ids []string
	for range jobs {
		ids = append(ids, s.submit("count", object{"to": 4}).ID)
	}
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	begin := time.Now()
	for _, id := range ids {
		for status := ""; status != "succeeded"; status = s.job(id).Status {
			require.NotEqual(t, "failed", status, id)
			if time.Since(begin) < 3*patience { // where a worker takes longer to start than they live, they have to be left alone
				crew.replace()
			}
			<-every.C
		}
	}
	var records []record
	var waits []time.Duration
	for _, id := range ids {
		events := s.events(id, "").rest()
		records = append(records, record{job: id, events: events, over: true})
		waits = append(waits, crew.givenBack(events)...)
	}
	require.Empty(t, judge(ids, records))
	require.NotEmpty(t, waits)
	slices.Sort(waits)
	usual, worst := waits[len(waits)/2], waits[len(waits)-1]
	require.LessOrEqual(t, usual, lease+2*time.Second)
	require.LessOrEqual(t, worst, lease+leeway)
	t.Logf("%d jobs, %d workers killed, %d of them at work: each job has one end; their jobs were given back after %v, or %v at most", len(ids), len(crew.killed), len(waits), usual, worst)
}

// interpreter returns Python itself: what stands in the path may be a script that takes
// longer to find it than these workers live.
func interpreter(t *testing.T) string {
	path, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(path))
}

// mortals are pull workers, any of which may die next.
type mortals struct {
	*server
	rand    *rand.Rand
	python  string
	names   int
	alive   []*program
	workers []string
	killed  map[string]time.Time
}

func (m *mortals) hire() {
	m.names++
	name := fmt.Sprint("worker-", m.names)
	m.alive = append(m.alive, m.run([]string{"PACE=0.1", "WORKER=" + name}, m.python, "examples/pull/worker.py"))
	m.workers = append(m.workers, name)
}

// replace kills a worker, and has another begin.
func (m *mortals) replace() {
	n := m.rand.IntN(len(m.alive))
	m.killed[m.workers[n]] = time.Now()
	m.alive[n].kill()
	m.alive, m.workers = slices.Delete(m.alive, n, n+1), slices.Delete(m.workers, n, n+1)
	m.hire()
}

// givenBack returns, of each attempt of a job that died with its worker, how long it took
// until the job waited for the next: when that begins says how many workers are free.
func (m *mortals) givenBack(events []event) (waits []time.Duration) {
	var died time.Time
	for _, e := range events {
		switch {
		case e.Type == "job.running":
			died = m.killed[e.field("worker").(string)]
		case e.Type == "job.queued" && !died.IsZero():
			waits = append(waits, e.Time.Sub(died))
		}
	}
	return waits
}

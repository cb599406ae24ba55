package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// program is a pull worker in a process of its own.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	out *os.File
}

// run starts a program with variables NAME=value, until the test ends.
func (s *server) run(environ []string, command ...string) *program {
	s.t.Helper()
	out, err := os.Create(filepath.Join(s.t.TempDir(), "out"))
	require.NoError(s.t, err)
	p := &program{t: s.t, cmd: exec.Command(command[0], command[1:]...), out: out}
	p.cmd.Dir, p.cmd.SysProcAttr = "..", withUs
	p.cmd.Env = append(append(os.Environ(), "MILLSTREAM_SERVER="+s.base, "PYTHONUNBUFFERED=1"), environ...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	require.NoError(s.t, p.cmd.Start())
	s.t.Cleanup(p.kill)
	return p
}

// kill ends the program as a crash does.
func (p *program) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if p.t.Failed() {
		p.t.Logf("%s said:\n%s", p.cmd.Args, p.said())
	}
}

func (p *program) said() string {
	text, err := os.ReadFile(p.out.Name())
	require.NoError(p.t, err)
	return string(text)
}

func (p *program) signal(sig syscall.Signal) { require.NoError(p.t, p.cmd.Process.Signal(sig)) }

// pulls is a server with the kind count, whose leases live for so long.
func pulls(t *testing.T, lease string) *server {
	t.Helper()
	return start(t, object{"kinds": object{"count": object{"pull": object{}, "lease": lease}}})
}

// python and javascript are the examples, which count one each that many seconds.
func (s *server) python(pace string) *program {
	return s.run([]string{"PACE=" + pace}, "python3", "examples/pull/worker.py")
}

func (s *server) javascript(pace string) *program {
	return s.run([]string{"PACE=" + pace}, "node", "examples/pull/worker.mjs")
}

// held is what a test that is a worker itself holds.
type held struct {
	client
	Lease      string
	Job        jobState
	Checkpoint json.RawMessage
}

// take takes a job, and waits for it.
func (c client) take() held {
	c.t.Helper()
	var got struct{ Leases []held }
	eventually(c.t, "there is work", func() bool {
		a := c.ask("POST", "/v1/leases", strings.NewReader(`{"kinds":["count"],"worker":"test"}`),
			"Content-Type", "application/json", "Prefer", "wait=10")
		if a.Status == http.StatusOK {
			a.into(c.t, &got)
		}
		return a.Status == http.StatusOK
	})
	got.Leases[0].client = c
	return got.Leases[0]
}

func (h held) say(events string) answer {
	h.t.Helper()
	return h.ask("POST", "/v1/leases/"+h.Lease+"/events", strings.NewReader(events), "Content-Type", "application/json")
}

// attempts returns how many of the events are of that type, by attempt.
func attempts(events []event, kind string) map[int]int {
	n := map[int]int{}
	for _, e := range events {
		if e.Type == kind {
			n[e.Attempt]++
		}
	}
	return n
}

// leeway is by how much later than it should a lease may be lost in a test that loses one or two: a
// machine that is busy may stall the server for that long. That it is two seconds at the most
// as a rule is shown where many are lost, by TestMortalPullWorkers.
const leeway = 12 * time.Second

func TestExamplePull(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*server, string) *program{"python": (*server).python, "javascript": (*server).javascript} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := launch(t, binary, "serve", "--config", "examples/pull/millstream.yaml")
			begin(s, "0.01")
			events := s.finished("count", object{"to": 3})
			require.JSONEq(t, `{"counted":3}`, string(s.result(events[0].Job).Body))
			require.Equal(t, map[int]int{1: 3}, attempts(events, "checkpoint"))
			require.NotEmpty(t, first(events, "job.running").field("worker"))
		})
	}
}

// A worker is killed: another has the job within the lease and two seconds, and begins
// where the first was. The examples take over from each other.
func TestPullWorkerKilled(t *testing.T) {
	t.Parallel()
	s := pulls(t, "3s")
	worker := s.python("0.2")
	j := s.submit("count", object{"to": 20})
	st := s.events(j.ID, "")
	for range 3 {
		st.until("checkpoint")
	}
	worker.kill()
	killed := time.Now()
	lost := st.until("job.queued")
	require.Equal(t, "lease-lost", lost.field("reason"))
	require.Less(t, lost.Time.Sub(killed), 3*time.Second+leeway)
	s.javascript("0.01")
	again := st.until("job.running")
	require.Equal(t, 2, again.Attempt)
	require.Greater(t, st.until("job.progress").field("progress"), 3.0, "it begins where the first was")
	require.Equal(t, "job.succeeded", st.until("job.succeeded").Type)
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: s.events(j.ID, "").rest(), over: true}}))
}

// A worker stops for longer than its lease, and goes on as if nothing had happened:
// nothing it says is stored, and it learns that the job is no more its own.
func TestPullWorkerFrozen(t *testing.T) {
	t.Parallel()
	s := pulls(t, "10s") // the second worker is this test, which may stall for some seconds
	zombie := s.python("0.1")
	j := s.submit("count", object{"to": 1000})
	st := s.events(j.ID, "")
	st.until("checkpoint")
	zombie.signal(syscall.SIGSTOP)
	require.Equal(t, "lease-lost", st.until("job.queued").field("reason"))
	second := s.take()
	require.Equal(t, j.ID, second.Job.ID)
	require.NotEqual(t, "null", string(second.Checkpoint))
	zombie.signal(syscall.SIGCONT)
	eventually(t, "it has tried", func() bool {
		require.Equal(t, http.StatusOK, second.say(`[]`).Status)
		return strings.Contains(zombie.said(), "409")
	})
	require.Equal(t, http.StatusOK, second.say(`[{"type":"job.succeeded","data":{"result":null}}]`).Status)
	events := s.events(j.ID, "").rest()
	since := false
	for _, e := range events {
		if since = since || e.Type == "job.running" && e.Attempt == 2; since {
			require.NotContains(t, []string{"checkpoint", "job.progress"}, e.Type, "%s", e.raw)
		}
	}
	require.True(t, since)
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: events, over: true}}))
}

// The server is killed, and stopped in order, while a worker works: the same attempt
// goes on, and ends once.
func TestServerKilledWhilePullWorkerWorks(t *testing.T) {
	t.Parallel()
	s := pulls(t, "10s")
	s.run(nil, binary, "worker", "--kind", "count", "--", "sh", "-c", "for i in $(seq 40); do echo line $i; sleep 0.1; done")
	j := s.submit("count", nil)
	st := s.events(j.ID, "")
	for range 3 {
		st.until("job.output")
	}
	s.kill()
	s.boot()
	again := s.events(j.ID, "")
	for !strings.Contains(again.until("job.output").field("chunk").(string), "line 20\n") {
	}
	require.Zero(t, s.signal(syscall.SIGTERM))
	s.boot()
	s.until(j.ID, "succeeded")
	events := s.events(j.ID, "").rest()
	require.Equal(t, map[int]int{1: 1}, attempts(events, "job.running"))
	var want strings.Builder
	for i := range 40 {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	require.Equal(t, want.String(), output(t, events))
	require.Equal(t, want.String(), string(s.result(j.ID).Body))
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: events, over: true}}))
}

// The command of a worker ends when somebody cancels the job, and what it started too.
func TestCancelReachesThePullWorker(t *testing.T) {
	t.Parallel()
	s := pulls(t, "10s") // for as long the worker may be silent, before the job is canceled without it
	file := filepath.Join(t.TempDir(), "ended")
	s.run(nil, binary, "worker", "--kind", "count", "--", "sh", "-c", "trap 'echo > "+file+"; exit 1' TERM; echo ready; while :; do sleep 0.1; done")
	j := s.submit("count", nil)
	s.events(j.ID, "").until("job.output")
	require.Equal(t, http.StatusAccepted, s.cancel(j.ID).Status)
	s.until(j.ID, "canceled")
	eventually(t, "the command was told", func() bool {
		_, err := os.Stat(file)
		return err == nil
	})
}

// A worker that is told to stop hands its job back: no attempt is used up, and nobody
// waits for the end of the lease.
func TestPullWorkerStops(t *testing.T) {
	t.Parallel()
	s := pulls(t, "1h")
	worker := s.run(nil, binary, "worker", "--kind", "count", "--", "sh", "-c", "echo ready; sleep 3600")
	j := s.submit("count", nil)
	st := s.events(j.ID, "")
	st.until("job.output")
	worker.signal(syscall.SIGTERM)
	require.Equal(t, "drain", st.until("job.queued").field("reason"))
	require.NoError(t, worker.cmd.Wait())
	h := s.take()
	require.Equal(t, 1, h.Job.Attempt)
	require.Equal(t, http.StatusUnprocessableEntity, h.say(`[{"type":"job.log","data":{"line":"x"}},{"type":"job.output"}]`).Status)
	require.Equal(t, http.StatusOK, h.say(`[{"type":"job.failed","data":{"error":{"detail":"no","retryable":false}}}]`).Status)
	require.Equal(t, http.StatusOK, h.say(`[{"type":"job.failed","data":{"error":{"detail":"no","retryable":false}}}]`).Status)
	require.Equal(t, http.StatusConflict, h.say(`[]`).Status)
	events := s.events(j.ID, "").rest()
	require.Empty(t, attempts(events, "job.log"))
	require.Equal(t, "job.failed", events[len(events)-1].Type)
}

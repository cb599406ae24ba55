package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// With durability: power-safe a job is on the disk before its 202 is written, and an
// event before a reader gets it: strace sees the record go to its file, the sync of the
// file system begin and end behind it, and then the answer.
func TestPowerSafe(t *testing.T) {
	t.Parallel()
	const jobs = 20
	out := filepath.Join(t.TempDir(), "strace")
	s := launch(t, "strace", "-D", "-f", "-q", "-s", "700", "-e", "trace=write,pwrite64,syncfs", "-e", "signal=none", "-o", out,
		binary, "serve", "--log-level", "warn", "--durability", "power-safe", "--kind", "k=echo done")
	var ids []string
	for range jobs {
		a := s.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"k","input":{}}`), "Content-Type", "application/json", "Accept", "text/event-stream")
		require.Equal(t, 200, a.Status)
		ids = append(ids, jobIn.FindString(string(a.Body)))
		a = s.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"k","input":{}}`), "Content-Type", "application/json")
		require.Equal(t, 202, a.Status)
		ids = append(ids, jobIn.FindString(string(a.Body)))
	}
	require.Zero(t, s.signal(syscall.SIGTERM))
	trace := readTrace(t, out, s.cmd.Process.Pid)
	for _, id := range ids[1:] {
		stored := trace.first(0, "pwrite64(", "jobs.k."+id)
		trace.requireSync(t, stored, trace.first(stored, "write(", "/v1/jobs/"+id), "the answer for "+id)
	}
	for n := 0; n < len(ids); n += 2 {
		ended := trace.first(0, "pwrite64(", "jobs.k."+ids[n], `job.succeeded`)
		trace.requireSync(t, ended, trace.first(ended, "write(", `event: job.succeeded`, ids[n]), "the end of "+ids[n])
	}
	require.GreaterOrEqual(t, trace.syncs(0, len(trace)), len(ids))
}

var jobIn = regexp.MustCompile(`job_[0-9a-z]+`)

// trace is what strace wrote, a line a system call or a part of one, in the order in
// which they happened.
type trace []string

// readTrace reads the trace of a process that has ended, which is the last that strace writes of it.
func readTrace(t *testing.T, name string, pid int) trace {
	t.Helper()
	var text []byte
	end := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +\+\+\+ exited with 0 \+\+\+$`, pid)) // short numbers are filled up
	eventually(t, "strace ends", func() bool {
		var err error
		text, err = os.ReadFile(name)
		require.NoError(t, err)
		return end.Match(text)
	})
	return strings.Split(string(text), "\n")
}

// first returns the first line at or behind from that has all the words.
func (tr trace) first(from int, words ...string) int {
	for n := max(0, from); n < len(tr); n++ {
		has := 0
		for _, w := range words {
			if strings.Contains(tr[n], w) {
				has++
			}
		}
		if has == len(words) {
			return n
		}
	}
	return -1
}

// syncs returns how many syncs began and ended, well, between two lines.
func (tr trace) syncs(from, to int) (n int) {
	begun := map[string]bool{} // by thread
	for _, line := range tr[from:to] {
		thread, call, _ := strings.Cut(line, " ")
		switch call = strings.TrimSpace(call); {
		case strings.HasPrefix(call, "syncfs(") && strings.HasSuffix(call, "= 0"):
			n++
		case strings.HasPrefix(call, "syncfs("):
			begun[thread] = true
		case strings.HasPrefix(call, "<... syncfs resumed") && strings.HasSuffix(call, "= 0") && begun[thread]:
			n++
		}
	}
	return n
}

func (tr trace) requireSync(t *testing.T, stored, told int, what string) {
	t.Helper()
	require.GreaterOrEqual(t, stored, 0, "%s: never stored", what)
	require.GreaterOrEqual(t, told, 0, "%s: never told", what)
	if tr.syncs(stored, told) == 0 {
		t.Errorf("%s was told without a sync:\n%s", what, strings.Join(tr[stored:told+1], "\n"))
	}
}

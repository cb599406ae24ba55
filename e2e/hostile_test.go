package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A reader that asks for a stream and never reads it holds up nobody: beside it
// another gets everything, to the end.
func TestReaderThatNeverReads(t *testing.T) {
	t.Parallel()
	const lines = 400_000 // 20 MB: more than the buffers between two sockets hold
	s := start(t, object{"kinds": object{"much": object{"exec": object{
		"command": []string{"sh", "-c", fmt.Sprintf("yes 'a line that takes its place in a buffer' | head -n %d", lines)},
	}}}})
	j := s.submit("much", nil)
	lazy, err := net.Dial("tcp", s.address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = lazy.Close() })
	require.NoError(t, lazy.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = fmt.Fprintf(lazy, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", j.Links["events"], s.address())
	require.NoError(t, err)
	head, err := bufio.NewReaderSize(lazy, 16).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, head, "200 OK")

	events := s.events(j.ID, "").rest()
	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	require.Equal(t, lines, strings.Count(output(t, events), "\n"))
}

// family is a shell command that does not listen to SIGTERM, and starts a child, and
// another in a session of its own: it says who they are.
const family = `trap '' TERM; sleep 3600 & echo $!; setsid sleep 3600 & echo $!; while :; do wait; done`

// children reads who they are from the job's output.
func children(t *testing.T, st *stream) []string {
	t.Helper()
	said := ""
	for strings.Count(said, "\n") < 2 {
		said += output(t, []event{st.until("job.output")})
	}
	return strings.Fields(said)
}

// A command that will not listen is killed, and everything it started with it.
func TestCancelOfACommandThatIgnoresIt(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"deaf": object{"exec": object{
		"grace": "200ms", "command": []string{"sh", "-c", family},
	}}}})
	j := s.submit("deaf", nil)
	st := s.events(j.ID, "")
	started := children(t, st)
	require.Equal(t, http.StatusAccepted, s.cancel(j.ID).Status)
	st.until("job.canceled")
	require.Equal(t, "canceled", s.job(j.ID).Status)
	require.Equal(t, http.StatusOK, s.cancel(j.ID).Status, "again: nothing changes")
	for _, child := range started {
		eventually(t, "the command's child is gone", func() bool { return !alive(t, child) })
	}
}

// What the commands of a killed server had started does not live on beside those of
// the next one.
func TestKillLeavesNoCommandBehind(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{
		"deaf": object{"max_attempts": 1, "exec": object{"command": []string{"sh", "-c", family}}},
		"next": object{"exec": object{"command": []string{"true"}}},
	}})
	started := children(t, s.events(s.submit("deaf", nil).ID, ""))
	for _, child := range started {
		require.True(t, alive(t, child))
	}
	s.kill()
	s.boot()
	s.events(s.submit("next", nil).ID, "").rest()
	for _, child := range started {
		eventually(t, "the command's child is gone", func() bool { return !alive(t, child) })
	}
}

// Events that cannot be joined do not fail their job, however many they are: they
// come more slowly.
func TestMoreEventsThanTheLimit(t *testing.T) {
	t.Parallel()
	const said = 500
	s := start(t, object{
		"limits": object{"events_per_job": 200},
		"kinds": object{"talk": object{"exec": object{
			"command": []string{"sh", "-c", fmt.Sprintf(`for i in $(seq %d); do echo "{\"type\":\"token\",\"data\":$i}" >&3; done`, said)},
		}}},
	})
	events := s.events(s.submit("talk", nil).ID, "").rest()
	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	require.Len(t, slices.DeleteFunc(events, func(e event) bool { return e.Type != "token" }), said)
}

// Output without end and without a line break is cut in words, and takes no
// memory that grows with it.
func TestNoNewline(t *testing.T) {
	t.Parallel()
	size := 512 << 20
	if *soak {
		size = 1 << 30
	}
	const most = 384 << 20 // bytes of memory, nearly twice what it takes; all of the output would be more
	s := start(t, object{"kinds": object{"wall": object{"exec": object{
		"command": []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size)},
	}}}})
	j := s.submit("wall", nil)
	events := s.events(j.ID, "").rest()
	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	text := output(t, events)
	require.Equal(t, len(text), strings.Count(text, "x"))
	require.Less(t, len(text), size)
	require.Contains(t, logged(events), "cut")
	t.Logf("%d MiB written, %d MiB kept, %d MiB of memory at most", size>>20, len(text)>>20, s.peak()>>20)
	require.Less(t, s.peak(), int64(most))
}

// logged returns the lines of the job's log.
func logged(events []event) string {
	var b strings.Builder
	for _, e := range events {
		if e.Type == "job.log" {
			fmt.Fprintln(&b, e.field("line"))
		}
	}
	return b.String()
}

// alive reports whether a process still runs; a zombie does not.
func alive(t *testing.T, pid string) bool {
	t.Helper()
	require.NotEmpty(t, pid)
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

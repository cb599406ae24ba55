package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A backup is a past that is gone on from: what it has is as it was, byte for byte; what
// came after it is gone, no id of it is given again, and who read of it is told to start
// over.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate")
	s := start(t, object{"drain": "8s", "kinds": object{
		"large": object{"exec": object{"command": []string{"sh", "-c", "head -c 2000000 /dev/urandom"}, "stdout": "result"}},
		"gated": object{"max_attempts": 100, "exec": object{"grace": "100ms", "command": []string{"sh", "-c", `until [ -e "` + gate + `" ]; do sleep 0.02; done; seq 1 5`}}},
	}})
	stop := func() { require.Zero(t, s.signal(syscall.SIGTERM)) }
	kept := s.submit("large", "")
	s.until(kept.ID, "succeeded")
	result, events := s.result(kept.ID).Body, s.events(kept.ID, "").rest()
	live := s.submit("gated", "")
	s.until(live.ID, "running")
	stop()
	file := filepath.Join(t.TempDir(), "store.tar.zst")
	out, err := s.offline("backup", file)
	require.NoError(t, err, "%s", out)

	s.boot() // the future that will be lost
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	lost := s.submit("gated", "")
	s.until(lost.ID, "succeeded")
	s.until(live.ID, "succeeded")
	cursors := map[string]bool{}
	seen := s.events(live.ID, "").rest()
	for _, e := range seen {
		cursors[e.ID] = true
	}
	stop()
	require.NoError(t, os.Remove(gate))
	require.NoError(t, os.RemoveAll(s.data()))
	out, err = s.offline("restore", file)
	require.NoError(t, err, "%s", out)
	out, err = s.offline("verify")
	require.NoError(t, err, "%s", out)

	s.boot()
	require.Equal(t, result, s.result(kept.ID).Body)
	require.Equal(t, events, s.events(kept.ID, "").rest())
	require.Equal(t, http.StatusNotFound, s.ask("GET", "/v1/jobs/"+lost.ID, nil).Status)
	reader := s.events(live.ID, seen[len(seen)-1].ID)
	require.Equal(t, "stream.reset", reader.next().Type)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	again := reader.rest()
	require.Equal(t, "job.queued", again[0].Type, "it starts over")
	require.Equal(t, "job.succeeded", again[len(again)-1].Type)
	require.Equal(t, http.StatusNoContent, s.ask("GET", "/v1/jobs/"+live.ID+"/events", nil, "Accept", "text/event-stream", "Last-Event-ID", again[len(again)-1].ID).Status)
	common := 0
	for _, e := range again {
		if cursors[e.ID] {
			common++
		}
	}
	require.Equal(t, common, sharedFront(seen, again), "only what the backup has comes under an id that was given before")
	require.Less(t, common, len(again))
	require.NotEqual(t, lost.ID, s.submit("gated", "").ID)
}

// sharedFront returns how many events two readings begin with alike.
func sharedFront(a, b []event) (n int) {
	for n < min(len(a), len(b)) && a[n].ID == b[n].ID && a[n].raw == b[n].raw {
		n++
	}
	return n
}

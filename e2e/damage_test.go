package e2e

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A job that is damaged on the disk says so, whether it is over or waits: nobody takes it
// for one that never was, and nobody waits for it. The others are as they were.
func TestDamagedJobsSaySo(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{
		"done":  object{"exec": object{"command": []string{"cat"}}},
		"count": object{"pull": object{}},
	}})
	var over, waits []string
	for range 2 {
		over = append(over, s.submit("done", "x").ID)
		s.until(over[len(over)-1], "succeeded")
	}
	for range 2 {
		waits = append(waits, s.submit("count", object{"to": 1}).ID)
	}
	spoilt := func(stream, name string) bool {
		return spoil(t, filepath.Join(s.data(), "jetstream", "$G", "streams", stream, "msgs"), name)
	}
	eventually(t, "it is only in the archive", func() bool {
		time.Sleep(4 * time.Second) // the log is purged meanwhile, which the archive would be mended from
		s.kill()
		spoilt := spoilt("DONE", "done."+over[0])
		s.boot()
		return spoilt && s.ask("GET", "/v1/jobs/"+over[0], nil).Status != http.StatusOK
	})
	s.kill()
	require.True(t, spoilt("JOBS", "jobs.count."+waits[0]))
	s.boot()
	for _, id := range []string{over[0], waits[0]} {
		for _, path := range []string{"", "/events", "/result"} {
			a := s.ask("GET", "/v1/jobs/"+id+path, nil, "Accept", "text/event-stream, application/json, */*")
			require.Equal(t, http.StatusInternalServerError, a.Status, "%s %s", path, a.Body)
			require.Contains(t, string(a.Body), "job-damaged")
		}
		out, err := exec.Command(binary, "watch", "--server", s.base, id).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), "damaged")
	}
	require.Equal(t, "succeeded", s.job(over[1]).Status)
	require.Equal(t, "queued", s.job(waits[1]).Status)
	require.Equal(t, waits[1], s.take().Job.ID)
	require.Zero(t, s.signal(syscall.SIGTERM))
	out, err := s.offline("verify")
	require.Error(t, err)
	require.Contains(t, string(out), over[0])
	require.Contains(t, string(out), waits[0])
}

// spoil turns one bit of the message of that name, the last one, if it is there.
func spoil(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if at := bytes.LastIndex(text, []byte(name)); at >= 0 {
			text[at+300] ^= 1
			require.NoError(t, os.WriteFile(file, text, 0o600))
			return true
		}
	}
	return false
}

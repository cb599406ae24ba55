package e2e

import (
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

// nginxPatience is proxy_read_timeout in testdata/nginx.conf: so many heartbeats that a machine
// which stalls for some seconds is no end of a stream.
const nginxPatience = 7 * time.Second

// Behind a stock nginx that compresses event streams, every event is there before
// the next one happens, and a silent stream outlives nginx's patience.
func TestNginx(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{
		"heartbeat": "1s",
		"kinds":     object{"tokens": object{"http": object{"url": up.URL}}},
	})
	behind := s.at(startNginx(t, s.address()))
	j := behind.submit("tokens", object{})
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	st := behind.events(j.ID, "") // Go's client offers gzip by itself
	st.until("job.running")

	for n := range 5 {
		call.say("event: token\ndata: {\"n\":%d}\n\n", n)
		require.EqualValues(t, n, st.next().field("n"))
	}

	silence := time.Now()
	for beats := 0; time.Since(silence) < 2*nginxPatience; beats++ {
		st.heartbeat()
	}
	call.say("event: token\ndata: {\"n\":5}\n\n")
	require.EqualValues(t, 5, st.next().field("n"))
	call.end()
	require.Equal(t, "job.succeeded", st.next().Type)
}

// startNginx runs nginx in front of the address until the test ends.
func startNginx(t *testing.T, upstream string) (base string) {
	t.Helper()
	dir, listen := t.TempDir(), freeAddress(t)
	template, err := os.ReadFile("testdata/nginx.conf")
	require.NoError(t, err)
	text := strings.NewReplacer("LISTEN", listen, "UPSTREAM", upstream, "DIR", dir).Replace(string(template))
	config := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(config, []byte(text), 0o600))

	cmd := exec.Command("/usr/sbin/nginx", "-c", config, "-p", dir)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, withUs
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	base = "http://" + listen
	eventually(t, "nginx answers", func() bool {
		resp, err := http.Get(base + "/livez")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return base
}

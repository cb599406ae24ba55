package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that other machines reach makes a key at its first start, tells it
// once, and does nothing without it.
func TestKeyOnAnAddressThatOthersReach(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"cat": object{"exec": object{"command": []string{"cat"}}}}})
	require.Zero(t, s.signal(syscall.SIGTERM))
	_, port, err := net.SplitHostPort(s.address())
	require.NoError(t, err)
	for i, arg := range s.program {
		if arg == s.address() {
			s.program[i] = "0.0.0.0:" + port
		}
	}
	s.boot()
	told := regexp.MustCompile(`msk_\w+`).FindAllString(s.said(), -1)
	require.Len(t, told, 1)
	s.kill()
	s.boot()
	require.Equal(t, 1, strings.Count(s.said(), "msk_"), "it is told again")

	submit := func(headers ...string) answer {
		headers = append(headers, "Content-Type", "application/json")
		return s.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"cat","input":"x"}`), headers...)
	}
	require.Equal(t, http.StatusUnauthorized, submit().Status)
	require.Equal(t, http.StatusUnauthorized, submit("Authorization", "Bearer msk_"+strings.Repeat("A", 26)).Status)
	j := s.accepted(submit("Authorization", "Bearer "+told[0]))

	require.Equal(t, http.StatusUnauthorized, s.ask("GET", j.Links["events"], nil).Status)
	require.Equal(t, http.StatusUnauthorized, s.ask("GET", j.Links["events"]+"?access_token="+told[0], nil).Status, "no place for a key that does everything")
	events := s.open(j.Links["events"] + "?access_token=" + j.Token).rest()
	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	require.Equal(t, http.StatusForbidden, submit("Authorization", "Bearer "+j.Token).Status)

	a := s.ask("POST", "/v1/jobs", strings.NewReader(`[{"kind":"cat","input":1},{"kind":"cat","input":2}]`), "Content-Type", "application/json", "Authorization", "Bearer "+told[0])
	var b struct{ Batch, Token string }
	require.NoError(t, json.Unmarshal(a.Body, &b), "%s", a.Body)
	out, err := list(s, b.Token, "--batch", b.Batch)
	require.NoError(t, err, "%s", out)
	require.Equal(t, 2, strings.Count(out, "\n"), "all of its batch, and nothing else: %s", out)
	out, err = list(s, b.Token)
	require.Error(t, err)
	require.Contains(t, out, "A read token reads")
}

// list runs the command with a key in its environment.
func list(s *server, key string, args ...string) (string, error) {
	cmd := exec.Command(binary, append([]string{"list", "--server", s.base}, args...)...)
	cmd.Env = append(os.Environ(), "MILLSTREAM_KEY="+key)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

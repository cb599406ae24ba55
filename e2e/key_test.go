package e2e

import (
	"net"
	"net/http"
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
}

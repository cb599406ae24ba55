package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A job that nobody begins in time fails, one that is not done in time is stopped and
// fails, and the error of one that failed for good tells of every attempt.
func TestTimeAndAttempts(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{
		"slow": object{"concurrency": 1, "exec": object{"command": []string{"sleep", "1000"}}},
		"poor": object{"max_attempts": 3, "backoff": object{"first": "10ms"}, "exec": object{"command": []string{"sh", "-c", "echo no >&2; exit 3"}}},
	}})
	submit := func(body string) string {
		a := s.ask("POST", "/v1/jobs", strings.NewReader(body), "Content-Type", "application/json")
		require.Equal(t, 202, a.Status, string(a.Body))
		var j jobState
		a.into(t, &j)
		return j.ID
	}
	ends := func(id string) *problem {
		eventually(t, "it fails", func() bool { return s.job(id).Status == "failed" })
		return s.job(id).Error
	}
	runs := submit(`{"kind":"slow","input":null,"deadline":"10s"}`) // longer than it can take until the others are there
	waits := submit(`{"kind":"slow","input":null,"start_timeout":"500ms"}`)
	never := submit(`{"kind":"slow","input":null,"deadline":"1s"}`)
	require.Equal(t, "/problems/start-timeout", ends(waits).Type)
	require.Equal(t, "/problems/deadline-exceeded", ends(never).Type)
	require.Equal(t, "/problems/deadline-exceeded", ends(runs).Type)
	require.Equal(t, 1, s.job(runs).Attempt, "a deadline leaves no time for another attempt")

	poor := ends(submit(`{"kind":"poor","input":null}`))
	require.Equal(t, "/problems/exit-status", poor.Type)
	require.Equal(t, 3, poor.Attempt)
	require.Len(t, poor.Attempts, 2)
	for i, p := range poor.Attempts {
		require.Equal(t, i+1, p.Attempt)
		require.Contains(t, p.Detail, "no")
	}
}

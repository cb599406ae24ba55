package e2e

import (
	"bufio"
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// post submits what the body says.
func (c client) post(body string, headers ...string) jobState {
	c.t.Helper()
	return c.accepted(c.ask("POST", "/v1/jobs", strings.NewReader(body), append(headers, "Content-Type", "application/json")...))
}

// A job that is to begin later does not begin before, also if the server is killed in
// between; one whose time came meanwhile begins at once.
func TestDelayOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"k": object{"exec": object{"command": []string{"cat"}}}}})
	soon := s.post(`{"kind":"k","input":"soon","delay":"1ms"}`)
	later := s.post(`{"kind":"k","input":"later","delay":"10s"}`)
	never := s.post(`{"kind":"k","input":"never","delay":"1h"}`)
	s.until(soon.ID, "succeeded")
	s.kill()
	s.boot()
	require.Equal(t, "queued", s.job(later.ID).Status)
	s.until(later.ID, "succeeded")
	events := s.events(later.ID, "").rest()
	require.Equal(t, "job.running", events[1].Type)
	at, err := time.Parse(time.RFC3339, events[0].field("run_at").(string))
	require.NoError(t, err)
	require.WithinDuration(t, events[0].Time.Add(10*time.Second), at, 8*time.Second) // it counts from when it was asked for, which a busy machine stores later
	require.False(t, events[1].Time.Before(at), "%s", events[1].raw)
	require.Equal(t, "queued", s.job(never.ID).Status)
}

// What is erased stays gone, and its key stays used; the others stay.
func TestEraseOutlivesTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{
		"k":    object{"exec": object{"command": []string{"cat"}}},
		"slow": object{"exec": object{"command": []string{"sh", "-c", "echo ready; sleep 1000"}}},
	}})
	const keyed = `{"kind":"k","input":"x"}`
	over := s.post(keyed, "Idempotency-Key", "a")
	stays := s.post(keyed, "Idempotency-Key", "b")
	waits := s.post(`{"kind":"k","input":"x","delay":"1h"}`)
	runs := s.submit("slow", nil)
	s.until(over.ID, "succeeded")
	s.until(stays.ID, "succeeded")
	reader := s.events(runs.ID, "")
	reader.until("job.output")
	gone := []string{over.ID, waits.ID, runs.ID}
	for _, id := range gone {
		require.Equal(t, http.StatusNoContent, s.ask("DELETE", "/v1/jobs/"+id, nil).Status)
	}
	require.Equal(t, "job.canceled", reader.until("job.canceled").Type, "who reads it sees it end")
	requireGone := func() {
		for _, id := range gone {
			for _, path := range []string{"", "/events", "/result"} {
				require.Equal(t, http.StatusNotFound, s.ask("GET", "/v1/jobs/"+id+path, nil).Status)
			}
		}
		again := s.ask("POST", "/v1/jobs", strings.NewReader(keyed), "Content-Type", "application/json", "Idempotency-Key", "a")
		require.Equal(t, http.StatusNotFound, again.Status, "%s", again.Body)
		require.Equal(t, "succeeded", s.job(stays.ID).Status)
	}
	requireGone()
	s.kill()
	s.boot()
	requireGone()
	s.kill()
	out, err := s.offline("verify")
	require.NoError(t, err, "%s", out)
}

// A job that shall not outlive its sender does not.
func TestSenderLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"slow": object{"exec": object{"command": []string{"sh", "-c", "echo ready; sleep 1000"}}}}})
	ctx, leave := context.WithCancel(t.Context())
	resp, err := send(ctx, s.base, "POST", "/v1/jobs", strings.NewReader(`{"kind":"slow","input":null,"cancel_on_disconnect":true}`),
		"Content-Type", "application/json", "Accept", "text/event-stream")
	require.NoError(t, err)
	id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/jobs/")
	s.until(id, "running")
	leave()
	_ = resp.Body.Close()
	s.until(id, "canceled")
	require.Equal(t, http.StatusAccepted, s.ask("POST", "/v1/jobs/"+id+"/retry", nil).Status)
}

// Nor does one of a command that is killed; who kills the server instead kills no job.
func TestCommandLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"slow": object{"max_attempts": 10, "exec": object{"command": []string{"sh", "-c", "echo ready; sleep 1000"}}}}})
	cmd := exec.CommandContext(t.Context(), binary, "submit", "slow", "-i", "x", "--watch", "--cancel-on-disconnect", "--server", s.base)
	cmd.SysProcAttr = withUs
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := bufio.NewReader(stderr)
	first, err := said.ReadString('\n')
	require.NoError(t, err)
	id := strings.TrimSpace(first)
	s.until(id, "running")
	s.kill()
	s.boot()
	for line := ""; !strings.Contains(line, "running, attempt 2"); { // seen on a new connection
		line, err = said.ReadString('\n')
		require.NoError(t, err)
	}
	s.until(id, "running")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	s.until(id, "canceled")
}

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every audit of graphql-http is passed: all that GraphQL over HTTP says a server must, should
// and may do.
func TestGraphQLAudits(t *testing.T) {
	t.Parallel()
	s := start(t, object{})
	passed := map[string]int{}
	for text := range strings.Lines(string(node(t, nil, "testdata/node/graphql-audits.mjs", s.base+"/graphql"))) {
		var audit struct{ ID, Name, Status, Reason string }
		require.NoError(t, json.Unmarshal([]byte(text), &audit))
		class, _, _ := strings.Cut(audit.Name, " ")
		if audit.Status == "ok" {
			passed[class]++
		} else {
			t.Errorf("%s %s: %s", audit.ID, audit.Name, audit.Reason)
		}
	}
	t.Logf("passed: %v", passed)
	require.Equal(t, map[string]int{"MUST": 13, "SHOULD": 23, "MAY": 25}, passed)
}

// What introspection tells, asked for all that there is, is the schema as it is written.
func TestGraphQLSchema(t *testing.T) {
	t.Parallel()
	s := start(t, object{})
	var schema struct{ Served, Written string }
	require.NoError(t, json.Unmarshal(node(t, nil, "testdata/node/graphql-schema.mjs", s.base+"/graphql", "../handlers/graph/schema.graphqls"), &schema))
	require.NotEmpty(t, schema.Written)
	require.Equal(t, schema.Written, schema.Served)
}

// graphql-ws and graphql-sse, which most programs use, follow a job through cut connections,
// a stop and kill -9 of the server, with nothing but the last id, and have what everybody has.
func TestGraphQLClients(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "gate") // opened when all is done to them that is to be done
	s := start(t, object{"kinds": object{"ticks": object{"max_attempts": 100, "exec": object{
		"command": []string{"sh", "-c", `n=0; until [ -e "$0" ]; do n=$((n+1)); echo "zwölf ☃ $n"; sleep 0.1; done`, gate},
	}}}})
	j := s.submit("ticks", nil)
	cuts := []int{1500, 700, 900}
	socket, stream := newProxy(t, s.address(), cuts...), newProxy(t, s.address(), cuts...)
	clients := []*script{
		follow(t, "testdata/node/graphql-ws.mjs", "ws://"+socket.Addr().String()+"/graphql", j.ID, j.Token),
		follow(t, "testdata/node/graphql-sse.mjs", stream.URL()+"/graphql", j.ID, j.Token),
	}
	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		s.events(j.ID, "latest").until("job.output")
		s.signal(end)
		s.boot()
	}
	lines := []*proxy{socket, stream}
	for _, line := range lines {
		eventually(t, "every cut is met", func() bool { return line.whole() && len(line.streams()) > len(cuts) })
	}
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	s.until(j.ID, "succeeded")
	want := s.events(j.ID, "").rest()
	for _, c := range clients {
		require.NoError(t, c.Wait(), "%s", c.stderr.String())
		seen := strings.Split(strings.TrimSpace(c.stdout.String()), "\n")
		require.Len(t, seen, len(want))
		for i, e := range want {
			require.JSONEq(t, e.raw, seen[i])
		}
		t.Logf("%s: %d events, the connection lost %d times", c.Args[1], len(seen), strings.Count(c.stderr.String(), "lost: "))
	}
}

// script is a Node program that runs beside the test.
type script struct {
	*exec.Cmd
	stdout, stderr strings.Builder
}

func follow(t *testing.T, args ...string) *script {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	t.Cleanup(cancel)
	s := &script{Cmd: exec.CommandContext(ctx, "node", args...)}
	s.Stdout, s.Stderr = &s.stdout, &s.stderr
	require.NoError(t, s.Start())
	return s
}

// A browser's own EventSource can follow a job too, and stops when there is no more.
func TestGraphQLByEventSource(t *testing.T) {
	t.Parallel()
	s := start(t, words)
	j := s.submit("words", nil)
	s.until(j.ID, "succeeded")
	want := s.events(j.ID, "").rest()
	line := newProxy(t, s.address(), 900, 1000)
	query := "?query=subscription%7Bevents(job:%22" + j.ID + "%22)%7Bobject%7D%7D&access_token=" + j.Token
	var seen []string
	for text := range strings.Lines(string(node(t, nil, "testdata/node/eventsource.mjs", line.URL()+"/graphql"+query, "next"))) {
		var e seenEvent
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		seen = append(seen, e.Data)
	}
	require.Len(t, seen, len(want))
	for i, e := range want {
		require.Equal(t, `{"data":{"events":{"object":`+e.raw+`}},"extensions":{"id":"`+e.ID+`"}}`, seen[i])
	}
	require.Len(t, line.streams(), 4)
	require.Equal(t, http.StatusNoContent, s.ask("GET", "/graphql"+query, nil, "Last-Event-ID", want[len(want)-1].ID, "Accept", "text/event-stream").Status)
}

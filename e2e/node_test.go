package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seenEvent is an event as the npm clients print it.
type seenEvent struct{ ID, Type, Data string }

func seenOf(events []event) (seen []seenEvent) {
	for _, e := range events {
		seen = append(seen, seenEvent{e.ID, e.Type, e.raw})
	}
	return seen
}

// words is work that writes a few lines in several scripts, and one to stderr.
var words = object{"kinds": object{"words": object{"exec": object{
	"command": []string{"sh", "-c", `printf 'one\n'; printf 'zwölf ☃ 𝄞\n\n'; printf 'a: b\r\ndata: x\n' ; echo told >&2`},
}}}}

// eventsource, which most Node programs use, reads the stream through two cuts,
// comes back by itself and stops at the end.
func TestNodeEventSource(t *testing.T) {
	t.Parallel()
	s := start(t, words)
	j := s.submit("words", nil)
	s.until(j.ID, "succeeded")
	want := s.events(j.ID, "").rest()
	line := newProxy(t, s.address(), 700, 1100)
	line.hurry = true

	args := []string{"testdata/node/eventsource.mjs", line.URL() + j.Links["events"]}
	args = append(args, typesOf(want)...)
	var seen []seenEvent
	for text := range strings.Lines(string(node(t, nil, args...))) {
		var e seenEvent
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		seen = append(seen, e)
	}
	require.Equal(t, seenOf(want), seen)
	require.Len(t, line.streams(), 4)
}

// typesOf returns each type of event once: EventSource has no way to listen to all.
func typesOf(events []event) []string {
	types := map[string]bool{}
	for _, e := range events {
		types[e.Type] = true
	}
	return slices.Sorted(maps.Keys(types))
}

// eventsource-parser, the strictest there is, finds the same events wherever the
// network splits the bytes.
func TestNodeParserAtEverySplit(t *testing.T) {
	t.Parallel()
	s := start(t, words)
	j := s.submit("words", nil)
	s.until(j.ID, "succeeded")
	a := s.ask("GET", j.Links["events"], nil)
	require.Equal(t, http.StatusOK, a.Status)

	var seen struct {
		Events            []seenEvent
		Comments, Retries int
	}
	require.NoError(t, json.Unmarshal(node(t, a.Body, "testdata/node/parser.mjs"), &seen))
	require.Equal(t, seenOf(s.events(j.ID, "").rest()), seen.Events)
	require.Equal(t, 1, seen.Retries)
	require.Zero(t, seen.Comments)
}

// fetch-event-source takes an event for read as soon as it has seen its id. As the id is
// the last line of an event, only a cut between that line and the next, which is empty,
// makes it lose one.
func TestEagerClientAtEveryCut(t *testing.T) {
	t.Parallel()
	s := start(t, words)
	j := s.submit("words", nil)
	s.until(j.ID, "succeeded")
	a := s.ask("GET", j.Links["events"], nil)
	require.Equal(t, http.StatusOK, a.Status)
	ahead, err := strconv.Atoi(strings.TrimSpace(string(node(t, a.Body, "testdata/node/eager.mjs"))))
	require.NoError(t, err)
	require.Equal(t, len(s.events(j.ID, "").rest()), ahead, "one place of each event")
}

// node runs a script with the bytes as its input and returns what it prints.
func node(t *testing.T, stdin []byte, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	return out
}

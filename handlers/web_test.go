package handlers

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWebFiles(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for path, mediaType := range map[string]string{"/client.js": "text/javascript; charset=utf-8", "/client.d.ts": "text/plain; charset=utf-8"} {
			a := s.get(path)
			require.Equal(t, 200, a.StatusCode)
			require.Equal(t, mediaType, a.Header.Get("Content-Type"))
			require.Contains(t, a.body, "watch(url")
			require.Equal(t, 304, s.get(path, "If-None-Match", a.Header.Get("ETag")).StatusCode)
			require.Empty(t, s.do("HEAD", path, "").body)
		}
	})
}

// Without their names all events are messages to an EventSource, and else the same.
func TestEventsWithoutNames(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		for _, path := range []string{"/events?", "/events?types=job.running&", "/events?after=garbage&"} {
			var lines []string
			for line := range strings.Lines(s.get(pathOf(id, path)).body) {
				if !strings.HasPrefix(line, "event: ") && !strings.HasPrefix(line, "retry: ") {
					lines = append(lines, line)
				}
			}
			_, unnamed, _ := strings.Cut(s.get(pathOf(id, path+"names=off")).body, "\n") // behind retry:
			require.Equal(t, strings.Join(lines, ""), unnamed)
		}
		require.Equal(t, s.get(pathOf(id, "/events")).body[20:], s.get(pathOf(id, "/events?names=on")).body[20:])
		s.problem(s.get(pathOf(id, "/events?names=maybe")), 400, "invalid-request")
		s.problem(s.get(pathOf(id, "/events?names=on&names=off")), 400, "invalid-request")
		s.api.Streams = 0
		a := s.get(pathOf(id, "/events?names=off&after=latest"))
		require.Contains(t, a.body, `"reason":"busy"`)
		require.NotContains(t, a.body, "event: ")
	})
}

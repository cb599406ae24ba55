package handlers

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// events returns the events of a stream's body, as a client reads them.
func eventsOf(t *testing.T, body string) (events []job.Event) {
	t.Helper()
	for frame := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		var name string
		for line := range strings.SplitSeq(frame, "\n") {
			switch field, value, _ := strings.Cut(line, ": "); field {
			case "event":
				name = value
			case "data":
				var e job.Event
				require.NoError(t, json.Unmarshal([]byte(value), &e))
				require.Equal(t, name, string(e.Type))
				events = append(events, e)
			case "id":
				require.NotEmpty(t, name)
				require.Equal(t, value, events[len(events)-1].Cursor().String())
			}
		}
	}
	return events
}

// said returns the type of each event, with its seq.
func said(events []job.Event) (s []string) {
	for _, e := range events {
		s = append(s, fmt.Sprintf("%s %d", e.Type, e.Seq))
	}
	return s
}

// pageOf returns a page's events, as said returns them.
func pageOf(t *testing.T, a answer) (events []string, cursor string, done bool) {
	t.Helper()
	require.Equal(t, 200, a.StatusCode, a.body)
	var p struct {
		Events []job.Event
		Cursor string
		Done   bool
	}
	a.into(t, &p)
	return said(p.Events), p.Cursor, p.Done
}

// The same events come on each transport from each cursor, whatever way it is
// named; and what is no cursor of this job is told in band.
func TestCursors(t *testing.T) {
	all := []string{"job.queued 1", "job.running 2", "job.progress 3", "job.succeeded 4"}
	reset := append([]string{"stream.reset 0"}, all...)
	for name, tc := range map[string]struct {
		header, query string
		want          []string
	}{
		"none":                    {"", "", all},
		"empty":                   {"", "?after=", all},
		"start":                   {"0-0-0", "", all},
		"start of another epoch":  {"", "?after=0-0-9", all},
		"header":                  {"2-101-1", "", all[2:]},
		"after":                   {"", "?after=2-101-1", all[2:]},
		"lastEventId":             {"", "?lastEventId=2-101-1", all[2:]},
		"last_event_id":           {"", "?last_event_id=2-101-1", all[2:]},
		"the header wins":         {"3-102-1", "?after=1-100-1", all[3:]},
		"over latest too":         {"3-102-1", "?after=latest", all[3:]},
		"even if it is bad":       {"x", "?after=3-102-1", reset},
		"so does a polyfill's":    {"", "?after=1-100-1&lastEventId=3-102-1", all[3:]},
		"and another's":           {"", "?after=1-100-1&last_event_id=3-102-1", all[3:]},
		"these over latest too":   {"", "?after=latest&lastEventId=3-102-1", all[3:]},
		"latest":                  {"", "?after=latest", []string{"stream.reset 4"}},
		"latest is no id":         {"latest", "", reset},
		"other epoch":             {"2-101-2", "", reset},
		"other position":          {"2-100-1", "", reset},
		"future":                  {"5-104-1", "", reset},
		"far future":              {"18446744073709551615-1-1", "", reset},
		"repeated":                {"", "?after=2-101-1&after=3-102-1", reset},
		"repeated, the same":      {"", "?after=2-101-1&after=2-101-1", all[2:]},
		"latest and another":      {"", "?after=latest&after=2-101-1", reset},
		"badly escaped":           {"", "?after=2-101-1%", reset},
		"a semicolon":             {"", "?lastEventId=2-101-1;x", reset},
		"too large":               {"18446744073709551616-1-1", "", reset},
		"negative":                {"-1-100-1", "", reset},
		"not the only name of it": {"02-101-1", "", reset},
		"garbage":                 {"../../etc", "", reset},
		"injected":                {"", "?after=2-101-1%0Aid:%201-100-1", reset},
		"NUL":                     {"", "?after=%00", reset},
		"long":                    {strings.Repeat("9", 4000), "", reset},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				s.progress(id, 1)
				s.succeed(id, "1")
				var header []string
				if tc.header != "" {
					header = []string{"Last-Event-ID", tc.header}
				}
				stream := s.get(pathOf(id, "/events"+tc.query), header...)
				require.Equal(t, 200, stream.StatusCode)
				require.Equal(t, tc.want, said(eventsOf(t, stream.body)))

				lines := s.get(pathOf(id, "/events"+tc.query), append(header, "Accept", ndjsonType)...)
				require.Equal(t, 200, lines.StatusCode)
				require.Equal(t, ndjsonType, lines.Header.Get("Content-Type"))
				require.Equal(t, tc.want, said(linesOf(t, lines.body)))

				page, cursor, done := pageOf(t, s.get(pathOf(id, "/events"+tc.query), append(header, "Accept", jsonType)...))
				require.Equal(t, tc.want, page)
				require.Equal(t, "4-103-1", cursor)
				require.True(t, done)
			})
		})
	}
}

func linesOf(t *testing.T, body string) (events []job.Event) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(body), "\n") {
		var e job.Event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		events = append(events, e)
	}
	return events
}

// From any event on, whatever is filtered, cut anywhere and resumed by the last id
// that was seen: nothing twice, nothing lost.
func TestResume(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		for n := range 20 {
			s.progress(id, n)
			s.add(id, job.Record{Type: "token", Data: []byte(strconv.Itoa(n))})
		}
		s.succeed(id, "1")
		for _, query := range []string{"?", "?types=token", "?types=job.queued&types=token,job.log", "?types=none"} {
			whole := eventsOf(t, s.get(pathOf(id, "/events"+query)).body)
			require.Equal(t, job.Succeeded, whole[len(whole)-1].Type)
			for i := range len(whole) - 1 {
				from := whole[i].Cursor().String()
				rest := s.get(pathOf(id, "/events"+query), "Last-Event-ID", from)
				require.Equal(t, said(whole[i+1:]), said(eventsOf(t, rest.body)))
			}
			for _, format := range []string{"sse", "ndjson"} {
				a := s.get(pathOf(id, "/events"+query+"&format="+format), "Last-Event-ID", whole[len(whole)-1].Cursor().String())
				require.Equal(t, 204, a.StatusCode)
				require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			}
			for limit := 1; limit < 12; limit++ {
				require.Equal(t, said(whole), s.pages(id, query+"&limit="+strconv.Itoa(limit)))
			}
		}
	})
}

package e2e

import (
	"mime"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a client may get wrong, or try. Each gets a problem that says so, and the
// server lives on.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	s := start(t, object{
		"limits": object{"body": "64KiB"},
		"kinds": object{
			"cat":    object{"exec": object{"command": []string{"cat"}}},
			"strict": object{"exec": object{"command": []string{"cat"}}, "input": object{"type": "object", "required": []string{"url"}}},
		},
	})
	known := s.submit("cat", "x")
	unknown := known.ID[:len(known.ID)-4] + "0000"

	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		problem                  string
	}{
		{"unknown kind", "POST", "/v1/jobs", `{"kind":"nope","input":null}`, nil, 404, "not-found"},
		{"unknown kind, raw", "POST", "/v1/kinds/nope/jobs", `x`, nil, 404, "not-found"},
		{"kind with a wildcard", "POST", "/v1/jobs", `{"kind":"*","input":null}`, nil, 404, "not-found"},
		{"kind with a dot", "POST", "/v1/jobs", `{"kind":"cat.x","input":null}`, nil, 404, "not-found"},
		{"no input", "POST", "/v1/jobs", `{"kind":"cat"}`, nil, 400, "invalid-request"},
		{"no kind", "POST", "/v1/jobs", `{"input":1}`, nil, 400, "invalid-request"},
		{"not JSON", "POST", "/v1/jobs", `{"kind":`, nil, 400, "invalid-request"},
		{"nothing", "POST", "/v1/jobs", ``, nil, 400, "invalid-request"},
		{"two values", "POST", "/v1/jobs", `{"kind":"cat","input":1}{"kind":"cat","input":1}`, nil, 400, "invalid-request"},
		{"a number", "POST", "/v1/jobs", `7`, nil, 400, "invalid-request"},
		{"unknown member", "POST", "/v1/jobs", `{"kind":"cat","input":1,"inptu":1}`, nil, 400, "invalid-request"},
		{"deep", "POST", "/v1/jobs", `{"kind":"cat","input":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`, nil, 400, "invalid-request"},
		{"broken UTF-8", "POST", "/v1/jobs", "{\"kind\":\"cat\",\"input\":\"\xff\"}", nil, 400, "invalid-request"},
		{"too large", "POST", "/v1/jobs", `{"kind":"cat","input":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "too-large"},
		{"wrong type", "POST", "/v1/jobs", `{"kind":"cat","input":1}`, []string{"Content-Type", "text/plain"}, 415, "unsupported-type"},
		{"a form", "POST", "/v1/jobs", `kind=cat`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported-type"},
		{"compressed", "POST", "/v1/jobs", "\x1f\x8b", []string{"Content-Encoding", "gzip"}, 415, "unsupported-type"},
		{"against the schema", "POST", "/v1/jobs", `{"kind":"strict","input":{}}`, nil, 422, "invalid-input"},
		{"page of another origin", "POST", "/v1/jobs", `{"kind":"cat","input":1}`, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "cross-origin"},
		{"another host", "GET", "/v1/jobs/" + known.ID, "", []string{"Host", "evil.example"}, 421, "wrong-host"},
		{"unknown job", "GET", "/v1/jobs/" + unknown, "", nil, 404, "not-found"},
		{"unknown job's events", "GET", "/v1/jobs/" + unknown + "/events", "", nil, 404, "not-found"},
		{"unknown job's result", "GET", "/v1/jobs/" + unknown + "/result", "", nil, 404, "not-found"},
		{"cancel of an unknown job", "POST", "/v1/jobs/" + unknown + "/cancel", "", nil, 404, "not-found"},
		{"id with a wildcard", "GET", "/v1/jobs/*/events", "", nil, 404, "not-found"},
		{"id with a subject", "GET", "/v1/jobs/job_%3E.cat/events", "", nil, 404, "not-found"},
		{"id that climbs", "GET", "/v1/jobs/..%2F..%2Fetc%2Fpasswd", "", nil, 404, "not-found"},
		{"id with a NUL", "GET", "/v1/jobs/job_%00", "", nil, 404, "not-found"},
		{"id without end", "GET", "/v1/jobs/job_" + strings.Repeat("0", 8000), "", nil, 404, "not-found"},
		{"forged token", "GET", "/v1/jobs/" + known.ID, "", []string{"Authorization", "Bearer e30.e30.x"}, 401, "unauthenticated"},
		{"no such path", "GET", "/v2/jobs", "", nil, 404, "not-found"},
		{"no such method", "DELETE", "/v1/jobs", "", nil, 405, "method-not-allowed"},
		{"a body where none belongs", "GET", "/v1/jobs/" + known.ID, "x", nil, 400, "invalid-request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			headers := append([]string{"Content-Type", jsonType}, tt.headers...)
			a := client{t, s.base}.ask(tt.method, tt.path, strings.NewReader(tt.body), headers...)
			require.Equal(t, tt.status, a.Status, "%s", a.Body)
			mediaType, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
			require.NoError(t, err)
			require.Equal(t, "application/problem+json", mediaType)
			var p problem
			a.into(t, &p)
			require.Equal(t, "/problems/"+tt.problem, p.Type)
			require.Equal(t, tt.status, p.Status)
			require.NotEmpty(t, p.Title)
			require.Equal(t, http.StatusOK, client{t, s.base}.ask("GET", p.Type, nil).Status, "the problem's page")
		})
	}
	require.Equal(t, "succeeded", s.until(known.ID, "succeeded").Status)
}

// A cursor that names no event of the job is no error, which would end an
// EventSource for good: the reader is told to start over, and gets everything.
func TestBadCursor(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"cat": object{"exec": object{"command": []string{"cat"}}}}})
	j, other := s.submit("cat", "x"), s.submit("cat", "y")
	s.until(j.ID, "succeeded")
	s.until(other.ID, "succeeded")
	want := s.events(j.ID, "").rest()
	foreign := s.events(other.ID, "").rest()

	for name, cursor := range map[string]string{
		"garbage":     "7",
		"hostile":     "../../etc/passwd",
		"foreign":     foreign[1].ID,
		"future":      strings.Replace(want[len(want)-1].ID, "-", "0-", 1),
		"other epoch": want[1].ID + "0",
		"long":        strings.Repeat("9", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			c := client{t, s.base}
			events := c.events(j.ID, cursor).rest()
			require.Equal(t, "stream.reset", events[0].Type)
			require.Equal(t, seenOf(want), seenOf(events[1:]))

			page := c.ask("GET", j.Links["events"], nil, "Accept", "application/json", "Last-Event-ID", cursor)
			require.Equal(t, http.StatusOK, page.Status)
			var p struct{ Events []event }
			page.into(t, &p)
			require.Equal(t, "stream.reset", p.Events[0].Type)
			require.Len(t, p.Events, len(events))
		})
	}
	require.Equal(t, http.StatusNoContent, s.ask("GET", j.Links["events"], nil, "Last-Event-ID", want[len(want)-1].ID).Status)
}

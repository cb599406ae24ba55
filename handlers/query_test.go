package handlers

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A query that cannot be read as it was meant is refused, on every route and in
// each representation, and nothing is done.
func TestMalformedQueries(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		s.forget()
		for _, query := range []string{
			"limit=1;types=x", "types=%zz", "%", "x=%4", ";", "a&b;c&d",
			"format=json&format=json", "limit=1&limit=2", "wait=0&wait=0", "access_token=a&access_token=a",
			"priority=low&priority=high", "timeout=1s&timeout=1s",
		} {
			for _, path := range []string{pathOf(id, ""), pathOf(id, "/events"), pathOf(id, "/result"), "/v1/kinds", "/v1/kinds/report"} {
				for _, accept := range []string{sseType, jsonType, ndjsonType} {
					s.problem(s.get(path+"?"+query, "Accept", accept), 400, "invalid-request")
				}
			}
			for _, path := range []string{"/v1/jobs", "/v1/kinds/report/jobs", pathOf(id, "/cancel")} {
				s.problem(s.post(path+"?"+query, `{"kind":"report","input":1}`), 400, "invalid-request")
			}
		}
		for _, format := range []string{"xml", "SSE", "json,sse"} {
			s.problem(s.get(pathOf(id, "/events?format="+format)), 400, "invalid-request")
		}
		require.Empty(t, s.called())

		p := s.problem(s.get(pathOf(id, "?a=1;b=2")), 400, "invalid-request")
		require.Contains(t, p.Detail, `"a=1;b=2"`)
		require.Contains(t, s.problem(s.get(pathOf(id, "/events?limit=1&limit=2")), 400, "invalid-request").Detail, "limit")
		s.problem(s.post("/v1/kinds/report/jobs", "1", "Millstream-Priority", "low", "Millstream-Priority", "high"), 400, "invalid-request")
		require.Equal(t, 200, s.get(pathOf(id, "/events?types=a&types=b&_=1&_=2&&")).StatusCode, "of types there may be many, and of what nobody reads")
		for _, query := range []string{"?tag=%ff", "?tags=a&tag=%e2%82", "?tag=a%00b"} {
			require.Contains(t, s.problem(s.post("/v1/kinds/report/jobs"+query, "1"), 400, "invalid-request").Detail, "UTF-8")
		}
		for _, query := range []string{"?tag=a", "?priority=high", "?webhook=x"} {
			s.problem(s.post("/v1/jobs"+query, `{"kind":"report","input":1}`), 400, "invalid-request")
		}
		s.problem(s.post("/v1/jobs", `{"kind":"report","input":1}`, "Millstream-Priority", "high"), 400, "invalid-request")
		require.Equal(t, 200, s.get("/livez?a;b").StatusCode)
	})
}

package handlers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// Each option at its limits and one beyond, at the beginning of the year 2000, for a kind
// whose attempts may take ten minutes.
func TestOptionsAtTheEdges(t *testing.T) {
	tags := func(n int, tag string) string {
		return `"tags":[` + strings.TrimSuffix(strings.Repeat(`"`+tag+`",`, n), ",") + `]`
	}
	kilo := strings.Repeat("x", 64)
	for name, edge := range map[string]struct {
		taken   []string
		refused []string
	}{
		"tags": {
			[]string{`"tags":[]`, tags(1, "a"), tags(15, "a"), tags(16, "a"), tags(16, kilo)},
			[]string{tags(17, "a"), tags(17, ""), tags(1000, "a"), `"tags":{}`, `"tags":[null]`, `"tags":[["a"]]`},
		},
		"tags/0": {
			[]string{tags(1, " "), tags(1, kilo), tags(1, strings.Repeat("é", 32)), tags(1, strings.Repeat("🎌", 16)), tags(1, "e\u0301"), tags(1, "\u200b\u2028"), tags(1, `\ud83c\udf8c`), tags(1, `\"\\`), tags(1, "\u00a0\u00ad")},
			[]string{
				tags(1, ""), tags(1, kilo+"x"), tags(1, strings.Repeat("é", 32)+"x"), tags(1, strings.Repeat("日", 21)+"xx"), tags(1, strings.Repeat("🎌", 17)),
				tags(1, `\u0000`), tags(1, `a\n`), tags(1, `\u001f`), tags(1, `\u007f`), tags(1, `\u0085`), tags(1, `\ufffd`), tags(1, `\ud83c`),
			},
		},
		"priority": {
			[]string{`"priority":"low"`, `"priority":"normal"`, `"priority":"high"`, `"priority":null`, `"priority":"\u006cow"`},
			[]string{`"priority":""`, `"priority":"Low"`, `"priority":" low"`, `"priority":"ｌｏｗ"`, `"priority":"highest"`, `"priority":0`, `"priority":1`, `"priority":true`},
		},
		"max_attempts": {
			[]string{`"max_attempts":1`, `"max_attempts":2`, `"max_attempts":99`, `"max_attempts":100`, `"max_attempts":null`},
			[]string{`"max_attempts":0`, `"max_attempts":-0`, `"max_attempts":-1`, `"max_attempts":101`, `"max_attempts":1.0`, `"max_attempts":1e1`, `"max_attempts":9223372036854775808`, `"max_attempts":18446744073709551617`, `"max_attempts":"1"`, `"max_attempts":[]`},
		},
		"timeout": {
			[]string{`"timeout":"1ns"`, `"timeout":"1ms"`, `"timeout":"9m59.999s"`, `"timeout":"10m"`, `"timeout":"600s"`, `"timeout":"5µs"`},
			[]string{`"timeout":""`, `"timeout":"0"`, `"timeout":"-1ns"`, `"timeout":"10m0.000000001s"`, `"timeout":"10m1ms"`, `"timeout":"2562048h"`, `"timeout":"1d"`, `"timeout":"１s"`, `"timeout":" 1s"`, `"timeout":"1"`, `"timeout":600`},
		},
		"retention": {
			[]string{`"retention":"1s"`, `"retention":"1.001s"`, `"retention":"168h"`, `"retention":"167h59m59.999s"`},
			[]string{`"retention":"0s"`, `"retention":"999.999999ms"`, `"retention":"-1s"`, `"retention":"168h0m0.001s"`, `"retention":"168h1ns"`, `"retention":"2562047h47m16.854775808s"`, `"retention":"7d"`, `"retention":""`},
		},
		"start_timeout": {
			[]string{`"start_timeout":"1ns"`, `"start_timeout":"1ms"`, `"start_timeout":"719h59m59.999s"`, `"start_timeout":"720h"`},
			[]string{`"start_timeout":"0s"`, `"start_timeout":"-1ms"`, `"start_timeout":"720h0m0.001s"`, `"start_timeout":"720h1ns"`, `"start_timeout":""`, `"start_timeout":"2000-01-01T01:00:00Z"`, `"start_timeout":60`},
		},
		"delay": {
			[]string{`"delay":"1ns"`, `"delay":"1ms"`, `"delay":"719h59m59.999s"`, `"delay":"720h"`},
			[]string{`"delay":"0s"`, `"delay":"-1ns"`, `"delay":"720h0m0.001s"`, `"delay":"720h1ns"`, `"delay":"2562047h"`, `"delay":""`, `"delay":"2000-01-01T01:00:00Z"`, `"delay":5`},
		},
		"run_at": {
			[]string{
				`"run_at":"0001-01-01T00:00:00Z"`, `"run_at":"1999-12-31T23:59:59.999Z"`, `"run_at":"2000-01-01T00:00:00Z"`, `"run_at":"2000-01-01T00:00:00.001Z"`, `"run_at":"2000-01-30T23:59:59.999Z"`,
				`"run_at":"2000-01-31T00:00:00Z"`, `"run_at":"2000-01-31T00:00:00.000Z"`, `"run_at":"2000-01-31T12:00:00+12:00"`, `"run_at":"2000-01-30T12:00:00-12:00"`,
			},
			[]string{
				`"run_at":"2000-01-31T00:00:00.001Z"`, `"run_at":"2000-01-31T00:00:00.000000001Z"`, `"run_at":"2000-01-31T00:00:00-00:01"`, `"run_at":"9999-12-31T23:59:59Z"`, `"run_at":"2000-01-30T23:59:60Z"`,
				`"run_at":"2000-01-01"`, `"run_at":"2000-01-01T00:00:00"`, `"run_at":"2000-01-01 00:00:00Z"`, `"run_at":"2000-02-30T00:00:00Z"`, `"run_at":946684800`, `"run_at":"２000-01-01T00:00:00Z"`,
			},
		},
		"deadline": {
			[]string{
				`"deadline":"1ms"`, `"deadline":"2000-01-01T00:00:00.001Z"`, `"deadline":"719h59m59.999s"`, `"deadline":"720h"`, `"deadline":"2000-01-31T00:00:00Z"`, `"deadline":"2000-01-31T12:00:00+12:00"`,
				`"delay":"720h","deadline":null`, `"delay":"719h59m59.999s","deadline":"720h"`, `"run_at":"2000-01-01T00:00:00Z","deadline":"1ms"`,
			},
			[]string{
				`"deadline":"0s"`, `"deadline":"-1ms"`, `"deadline":"720h0m0.001s"`, `"deadline":"720h1ns"`, `"deadline":"2000-01-31T00:00:00.001Z"`, `"deadline":"9999-12-31T23:59:59Z"`, `"deadline":"2562048h"`,
				`"delay":"720h","deadline":"720h"`, `"delay":"1h","deadline":"1h0.0005s"`, `"deadline":"２h"`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				for _, option := range edge.taken {
					a := s.post("/v1/jobs", `{"kind":"report","input":1,`+option+`}`)
					require.Equal(t, 202, a.StatusCode, "%s: %s", option, a.body)
				}
				s.forget()
				for _, option := range edge.refused {
					p := s.problem(s.post("/v1/jobs", `{"kind":"report","input":1,`+option+`}`), 400, "invalid-request")
					require.Len(t, p.Errors, 1, option)
					require.Equal(t, "/"+strings.Split(name, "/")[0], "/"+strings.Split(p.Errors[0].Pointer[1:], "/")[0], option)
				}
				require.NotContains(t, s.called(), "Submit")
			})
		})
	}
}

// A deadline that has come by the time its job would be stored is none that can be kept,
// however long ago that was.
func TestDeadlineThatHasCome(t *testing.T) {
	for deadline, ok := range map[string]bool{
		"0001-01-01T00:00:00Z": false, "0001-01-01T00:00:00.0009Z": false, "1999-12-31T23:59:59.999Z": false,
		"2000-01-01T00:00:00Z": false, "2000-01-01T00:00:00.0009Z": false, "1us": false,
		"2000-01-01T00:00:00.001Z": true, "2000-01-01T01:00:00.001+01:00": true,
	} {
		serve(t, func(t *testing.T, s *service) {
			body := `{"kind":"report","input":1,"deadline":"` + deadline + `"}`
			for _, a := range []answer{s.post("/v1/jobs", body), s.post("/v1/kinds/report/jobs?deadline="+strings.ReplaceAll(deadline, "+", "%2B"), "1")} {
				if ok {
					require.Equal(t, 202, a.StatusCode, "%s: %s", deadline, a.body)
					require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 1e6, time.UTC), s.last.Deadline)
					continue
				}
				require.Contains(t, s.problem(a, 400, "invalid-request").Detail, "to come", deadline)
			}
		})
	}
}

// The same limits hold where options stand in a query or in headers.
func TestOptionsOfARawSubmitAtTheEdges(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		many := func(n int) string { return "?" + strings.TrimSuffix(strings.Repeat("tag=%C3%A9&", n), "&") }
		for query, status := range map[string]int{
			many(16): 202, many(17): 400, "?tag=": 400, "?tag=" + strings.Repeat("%C3%A9", 32): 202, "?tag=" + strings.Repeat("%C3%A9", 32) + "x": 400, "?tag=%ff": 400, "?tag=a%00": 400,
			"?max_attempts=1": 202, "?max_attempts=100": 202, "?max_attempts=0": 400, "?max_attempts=101": 400, "?max_attempts=": 400, "?max_attempts=99999999999999999999": 400,
			"?delay=720h": 202, "?delay=720h1ms": 400, "?run_at=2000-01-31T00:00:00Z": 202, "?run_at=2000-01-31T00:00:00.001Z": 400, "?run_at=": 400,
			"?retention=1s": 202, "?retention=999ms": 400, "?retention=168h": 202, "?retention=168h1ms": 400, "?timeout=10m": 202, "?timeout=10m1ms": 400,
			"?start_timeout=720h": 202, "?start_timeout=720h1ms": 400, "?deadline=720h": 202, "?deadline=720h1ms": 400, "?priority=": 400, "?priority=high": 202,
		} {
			require.Equal(t, status, s.post("/v1/kinds/report/jobs"+query, "1").StatusCode, query)
			name, value, _ := strings.Cut(query[1:], "=")
			if name == "tag" || value == "" || strings.Contains(value, "%") {
				continue // a header that is empty is none
			}
			require.Equal(t, status, s.post("/v1/kinds/report/jobs", "1", headerOf(name), value).StatusCode, "%s in a header", query)
		}
	})
}

// after returns the jobs that follow a page.
func after(s *service, cursor string) []job.ID {
	ids, _ := s.listed("?cursor=" + cursor)
	return ids
}

// Lists at the edges of what they are asked for: an array of 0, 1, as many as the limit and
// one more, and times that lie at either end of what can be said.
func TestListAtTheEdges(t *testing.T) {
	for _, n := range []int{0, 1, maxList - 1, maxList, maxList + 1} {
		serve(t, func(t *testing.T, s *service) {
			for range n {
				s.submit()
			}
			ids, cursor := s.listed(fmt.Sprint("?limit=", maxList))
			require.Len(t, ids, min(n, maxList))
			require.Equal(t, n > maxList, cursor != "" && len(after(s, cursor)) > 0, "%d", n)
			ids, _ = s.listed("?limit=1")
			require.Len(t, ids, min(n, 1))
		})
	}
	serve(t, func(t *testing.T, s *service) {
		for query, want := range map[string]job.Query{
			"?created_after=2026-11-22T10:00:00.000Z":        {Since: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)},
			"?created_after=2026-11-22T10:00:00.001Z":        {Since: time.Date(2026, 11, 22, 10, 0, 0, 1e6, time.UTC)},
			"?created_before=2026-11-22T10:00:00.000000001Z": {Before: time.Date(2026, 11, 22, 10, 0, 0, 1, time.UTC)},
			"?created_after=9999-12-31T23:59:59.999Z":        {Since: time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)},
			"?created_before=0000-01-01T00:00:00Z":           {Before: time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)},
		} {
			s.listed(query)
			want.Limit = defaultList
			s.query.Since, s.query.Before = s.query.Since.UTC(), s.query.Before.UTC()
			require.Equal(t, want, s.query, query)
		}
		for _, zero := range []string{"0001-01-01T00:00:00Z", "0001-01-01T01:00:00%2B01:00"} {
			s.listed("?created_before=" + zero)
			require.False(t, s.query.Before.IsZero(), "nothing was created before it, and not everything")
		}
		for _, query := range []string{
			"?limit=00", "?limit=-0", "?limit=1.0", "?limit=%EF%BC%91", "?limit=9223372036854775808", "?limit=%201", "?created_after=2026-11-22T24:00:00Z", "?created_after=2026-11-22T23:59:60Z",
			"?created_after=2026-02-29T00:00:00Z", "?created_before=10000-01-01T00:00:00Z", "?created_before=2026-11-22T10:00:00",
		} {
			s.problem(s.get("/v1/jobs"+query), 400, "invalid-request")
		}
	})
}

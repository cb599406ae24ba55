package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// pathOf returns the path of a job, or of what belongs to it.
func pathOf(id job.ID, part string) string { return "/v1/jobs/" + string(id) + part }

// All members are there, in the order of the contract, and what a worker wrote is
// shown as it was stored.
func TestRepresentation(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		at := func(n int) time.Time { return time.Date(2026, 11, 22, 10, 0, n, 120_999_999, time.FixedZone("", 3600)) }
		id := s.submit()
		s.edit(id, func(j *job.Job) {
			*j = job.Job{
				ID: goldenJob, Kind: "report", Owner: anonymous, Status: job.StatusSucceeded, Attempt: 2, MaxAttempts: 3,
				Priority: job.Low, Key: "user:42", Tags: []string{"a", "<b>"},
				CreatedAt: at(1), RunAt: at(2), StartedAt: at(3), FinishedAt: at(4), ExpiresAt: at(5), CancelRequestedAt: at(6),
				Progress: json.RawMessage(`{"progress":1e1,"message":"<&>é"}`),
				Output:   json.RawMessage(`{"result":{"a":12345678901234567890.0,"html":"<b>&"}}`),
				Cursor:   job.Cursor{Seq: 7, Place: job.Place{Position: 18423, Epoch: 1}},
			}
		})
		require.Equal(t, `{"id":"job_01k3z9aaaaaaaaaaaaaaaaaaaa","kind":"report","status":"succeeded","attempt":2,"max_attempts":3,`+
			`"priority":"low","key":"user:42","tags":["a","<b>"],"batch":null,"queue_position":null,"created_at":"2026-11-22T09:00:01.120Z",`+
			`"run_at":"2026-11-22T09:00:02.120Z","started_at":"2026-11-22T09:00:03.120Z","finished_at":"2026-11-22T09:00:04.120Z",`+
			`"expires_at":"2026-11-22T09:00:05.120Z","cancel_requested_at":"2026-11-22T09:00:06.120Z",`+
			`"progress":{"progress":1e1,"message":"<&>é"},"result":{"a":12345678901234567890.0,"html":"<b>&"},"error":null,`+
			`"cursor":"7-18423-1","links":{"self":"/v1/jobs/job_01k3z9aaaaaaaaaaaaaaaaaaaa","events":"/v1/jobs/job_01k3z9aaaaaaaaaaaaaaaaaaaa/events",`+
			`"result":"/v1/jobs/job_01k3z9aaaaaaaaaaaaaaaaaaaa/result","cancel":"/v1/jobs/job_01k3z9aaaaaaaaaaaaaaaaaaaa/cancel"}}`,
			s.get(pathOf(id, "")).body)
	})
}

func TestConditional(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		first := s.get(pathOf(id, ""))
		tag := first.Header.Get("ETag")
		for _, list := range []string{tag, "W/" + tag, `"x", ` + tag, "*", tag + ` ,"y"`} {
			a := s.get(pathOf(id, ""), "If-None-Match", list)
			require.Equal(t, 304, a.StatusCode, list)
			require.Empty(t, a.body)
			for _, name := range []string{"ETag", "Cache-Control", "Vary"} {
				require.Equal(t, first.Header[name], a.Header[name], name)
			}
		}
		require.Equal(t, 304, s.get(pathOf(id, ""), "If-None-Match", `"x"`, "If-None-Match", tag).StatusCode, "on two lines")
		for _, list := range []string{"", `"x"`, strings.Trim(tag, `"`), `w/` + tag} {
			require.Equal(t, 200, s.get(pathOf(id, ""), "If-None-Match", list).StatusCode, list)
		}
		for _, list := range []string{tag, `"x", ` + tag, "*", ""} {
			require.Equal(t, 200, s.get(pathOf(id, ""), "If-Match", list).StatusCode, list)
		}
		require.Equal(t, 304, s.get(pathOf(id, ""), "If-Match", tag, "If-None-Match", tag).StatusCode)
		for _, list := range []string{`"x"`, "W/" + tag, strings.Trim(tag, `"`)} {
			begin := time.Now()
			a := s.get(pathOf(id, ""), "If-Match", list, "Prefer", "wait=20")
			s.problem(a, 412, "precondition-failed")
			require.Empty(t, a.Header.Get("ETag"))
			require.Zero(t, time.Since(begin), "there is nothing to wait for")
		}
		s.progress(id, 1)
		s.problem(s.get(pathOf(id, ""), "If-Match", tag, "If-None-Match", tag), 412, "precondition-failed")
		changed := s.get(pathOf(id, ""), "If-None-Match", tag)
		require.Equal(t, 200, changed.StatusCode)
		require.NotEqual(t, tag, changed.Header.Get("ETag"))
	})
}

// A long poll ends with the next change, at once if there was one already, and
// after the wait with what is not new.
func TestLongPoll(t *testing.T) {
	for name, tc := range map[string]struct {
		prefer string
		match  func(tag string) string
		event  time.Duration // when the job changes; 0: never
		status int
		took   time.Duration
	}{
		"change":                 {"wait=20", nil, 7 * time.Second, 200, 7 * time.Second},
		"no change":              {"wait=20", nil, 0, 200, 20 * time.Second},
		"change of what it has":  {"wait=20", func(tag string) string { return tag }, 7 * time.Second, 200, 7 * time.Second},
		"weakly":                 {"wait=20", func(tag string) string { return "W/" + tag }, 7 * time.Second, 200, 7 * time.Second},
		"what it has, no change": {"wait=20", func(tag string) string { return tag }, 0, 304, 20 * time.Second},
		"it has another":         {"wait=20", func(string) string { return `"x"` }, 7 * time.Second, 200, 0},
		"longer than allowed":    {"wait=999", nil, 0, 200, 30 * time.Second},
		"not at all":             {"wait=0", nil, 0, 200, 0},
		"garbage":                {"wait=-5", nil, 0, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				header := []string{"Prefer", tc.prefer}
				if tc.match != nil {
					header = append(header, "If-None-Match", tc.match(s.get(pathOf(id, "")).Header.Get("ETag")))
				}
				if tc.event > 0 {
					time.AfterFunc(tc.event, func() { s.progress(id, 1) })
				}
				begin := time.Now()
				a := s.get(pathOf(id, ""), header...)
				require.Equal(t, tc.status, a.StatusCode)
				require.Equal(t, tc.took, time.Since(begin))
				require.Equal(t, tc.event > 0 && tc.took > 0, strings.Contains(a.body, `"progress":{"progress":1}`))
				require.Equal(t, tc.prefer != "wait=-5", a.Header.Get("Preference-Applied") != "")
			})
		})
	}
}

// Whatever ends a wait early, the job as it is known is the answer.
func TestWaitEnds(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		over := s.submit()
		s.begin(over)
		s.succeed(over, "1")
		require.Equal(t, 200, s.get(pathOf(over, ""), "Prefer", "wait=20").StatusCode)
		require.NotContains(t, s.called(), "Open", "over already: there is nothing to wait for")
		id := s.submit()
		for name, ask := range map[string]func() answer{
			"HEAD":        func() answer { return s.do("HEAD", pathOf(id, ""), "", "Prefer", "wait=20") },
			"HEAD result": func() answer { return s.do("HEAD", pathOf(id, "/result"), "", "Prefer", "wait=20") },
			"HEAD page": func() answer {
				return s.do("HEAD", pathOf(id, "/events?after=1-100-1&format=json"), "", "Prefer", "wait=20")
			},
			"no reader": func() answer {
				s.fail("Open", job.Problemf("storage-unavailable", ""))
				defer s.fail("Open", nil)
				return s.get(pathOf(id, ""), "Prefer", "wait=20")
			},
		} {
			begin := time.Now()
			a := ask()
			require.Contains(t, []int{200, 202}, a.StatusCode, name)
			require.Zero(t, time.Since(begin), name)
		}
		begin := time.Now()
		time.AfterFunc(3*time.Second, func() { close(s.quit) })
		require.Equal(t, 200, s.get(pathOf(id, ""), "Prefer", "wait=20").StatusCode)
		require.Equal(t, 3*time.Second, time.Since(begin), "the server drains")
	})
}

// What cannot be the id of a job goes no further than the router, and is answered
// in the same words as a job that never was.
func TestIDs(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := string(s.submit())
		unknown := string(job.NewID())
		s.forget()
		for _, text := range []string{
			"*", ">", "a.b", "\x00", "$JS.API.>", strings.Repeat("0", 300), "é", "job_", " ", id + "0", id[:29], strings.ToUpper(id),
			"job_" + strings.Repeat("i", 26), "job_" + strings.Repeat("*", 26), "..", "%2e%2e", "job_01k3z9\r\nx: y", id + "\x00",
		} {
			for _, part := range []string{"", "/events", "/result", "/cancel"} {
				method := "GET"
				if part == "/cancel" {
					method = "POST"
				}
				for _, id := range []string{url.PathEscape(text), strings.ReplaceAll(url.PathEscape(text), "%", "%25")} {
					a := s.do(method, "/v1/jobs/"+id+part, "", "Accept", sseType)
					p := s.problem(a, 404, "not-found")
					require.Empty(t, s.called(), "%q%s", text, part)

					same := s.do(method, "/v1/jobs/"+unknown+part, "")
					if p.Detail != "There is no such path." { // what the router itself takes apart
						require.Equal(t, strings.ReplaceAll(same.body, unknown, "X"), strings.ReplaceAll(a.body, p.Instance, "/v1/jobs/X"+part))
						same.Header.Del("Content-Length")
						a.Header.Del("Content-Length")
						require.Equal(t, same.Header, a.Header)
					}
					s.forget()
				}
			}
		}
	})
}

// A job that is kept no longer is one that never was.
func TestExpired(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		time.Sleep(job.DefaultRetention - time.Nanosecond)
		require.Equal(t, 200, s.get(pathOf(id, "")).StatusCode)
		time.Sleep(time.Nanosecond)
		for _, part := range []string{"", "/events", "/result"} {
			s.problem(s.get(pathOf(id, part)), 404, "not-found")
		}
		s.problem(s.do(http.MethodPost, pathOf(id, "/cancel"), ""), 404, "not-found")
		require.NotContains(t, s.called(), "Cancel")
	})
}

func TestCancel(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		queued, running := s.submit(), s.submit()
		s.begin(running)
		a := s.post(pathOf(queued, "/cancel"), `{"reason":"no <longer> wanted"}`)
		require.Equal(t, 200, a.StatusCode)
		require.Contains(t, a.body, `"status":"canceled"`)
		require.NotContains(t, a.body, `"token"`)
		require.Equal(t, anonymous, s.by)
		require.Equal(t, "no <longer> wanted", s.why)

		a = s.do("POST", pathOf(running, "/cancel"), "") // no body, no type
		require.Equal(t, 202, a.StatusCode)
		require.Equal(t, "1", a.Header.Get("Retry-After"))
		require.Contains(t, a.body, `"cancel_requested_at":"2000`)
		require.Equal(t, "", s.why)
		require.Equal(t, 202, s.post(pathOf(running, "/cancel"), `{}`).StatusCode, "again")
		require.Equal(t, 202, s.send(s.chunked("POST", pathOf(running, "/cancel"), "")).StatusCode, "a body of no chunks is none")
		require.Equal(t, 202, s.post(pathOf(running, "/cancel"), `{"reason":"half of \ud800 a rune"}`).StatusCode)
		require.Equal(t, "half of \uFFFD a rune", s.why, "what is stored is text")

		s.succeed(running, "1")
		s.forget()
		a = s.post(pathOf(running, "/cancel"), `{"reason":null}`)
		require.Equal(t, 200, a.StatusCode)
		require.Contains(t, a.body, `"status":"succeeded"`)
		require.NotContains(t, s.called(), "Cancel", "a job that is over costs no write")
	})
}

func TestCancelRefused(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		for body, pointer := range map[string]string{
			`{"reason":1}`: "/reason",
			`{"reason":"` + strings.Repeat("x", maxReason+1) + `"}`: "/reason",
			`{"Reason":"x"}`:              "/Reason",
			`[]`:                          "",
			`{"reason":"a","reason":"b"}`: "/reason",
		} {
			p := s.problem(s.post(pathOf(id, "/cancel"), body), 400, "invalid-request")
			require.Equal(t, pointer, p.Errors[0].Pointer)
		}
		s.problem(s.post(pathOf(id, "/cancel"), `{`), 400, "invalid-request")
		s.problem(s.do("POST", pathOf(id, "/cancel"), `{}`, "Content-Type", "text/plain"), 415, "unsupported-type")
		s.problem(s.send(s.chunked("POST", pathOf(id, "/cancel"), `{}`)), 415, "unsupported-type")
		s.problem(s.post(pathOf(id, "/cancel"), strings.Repeat(" ", maxCancelBody+1)), 413, "too-large")
		require.NotContains(t, s.called(), "Cancel")

		s.fail("Cancel", job.ErrDraining)
		s.problem(s.post(pathOf(id, "/cancel"), `{}`), 503, "draining")
		s.fail("Cancel", job.ErrNotFound)
		p := s.problem(s.post(pathOf(id, "/cancel"), `{}`), 404, "not-found")
		require.Equal(t, errNoJob.Detail, p.Detail)
	})
}

// fleeting has each job expire behind the first look at it.
type fleeting struct {
	Jobs
	looks int
}

func (f *fleeting) Job(ctx context.Context, id job.ID) (job.Job, error) {
	if f.looks++; f.looks%2 == 0 {
		return job.Job{}, job.ErrNotFound
	}
	return f.Jobs.Job(ctx, id)
}

// A job that expires between two looks is gone; nothing of it is lost.
func TestExpiresWhileRead(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		s.fail("Open", job.ErrNotFound)
		s.fail("Result", job.ErrNotFound)
		for _, path := range []string{"/events", "/events?format=ndjson", "/events?format=json", "/result"} {
			s.problem(s.get(pathOf(id, path)), 404, "not-found")
		}
		require.Empty(t, s.logs.FilterLevelExact(zap.ErrorLevel).All())
	}, func(a *API) { a.Jobs = &fleeting{Jobs: a.Jobs} })
}

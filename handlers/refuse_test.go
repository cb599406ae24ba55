package handlers

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// Overload, drain and outage are told on the stream, with a time to come back and
// the id to come back with, to those whom any other status would end for good;
// and with a status to all others.
func TestTurnedAway(t *testing.T) {
	outage := job.Problemf("storage-unavailable", "")
	for name, tc := range map[string]struct {
		call   string // that fails
		err    error
		reason string
		status int
		name   string
	}{
		"full":              {"", nil, "busy", 429, "rate-limited"},
		"busy with history": {"Open", job.Problemf("rate-limited", "too many readers of old events"), "busy", 429, "rate-limited"},
		"draining":          {"Open", job.ErrDraining, "drain", 503, "draining"},
		"outage":            {"Open", outage, "outage", 503, "storage-unavailable"},
		"lost":              {"Open", job.ErrNotFound, "outage", 503, "storage-unavailable"},
		"a bug":             {"Open", errors.New("secret"), "outage", 500, "internal"},
		"outage at once":    {"Job", outage, "outage", 503, "storage-unavailable"},
		"a bug at once":     {"Job", errors.New("secret"), "outage", 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				if tc.call == "" {
					for range 3 {
						defer s.stream(pathOf(id, "/events")).quit()
					}
				}
				s.fail(tc.call, tc.err)
				for cursor, back := range map[string]string{"": "0-0-0", "1-100-1": "1-100-1", "7-7-7": "7-7-7"} {
					a := s.get(pathOf(id, "/events"), "Last-Event-ID", cursor)
					require.Equal(t, 200, a.StatusCode)
					require.Equal(t, sseType, a.Header.Get("Content-Type"))
					require.NotContains(t, a.body, "secret")
					var ms int
					_, err := fmt.Sscanf(a.body, "retry: %d\nevent: stream.end\n", &ms)
					require.NoError(t, err, a.body)
					require.True(t, 2000 <= ms && ms <= 60_000)
					require.True(t, strings.HasSuffix(a.body, `"data":{"reason":"`+tc.reason+"\"}}\nid: "+back+"\n\n"), a.body)
				}
				for cursor, want := range map[string][]string{
					"latest":                   {"stream.reset 2", "stream.end 2"}, // so that it comes back for what follows
					"garbage":                  {"stream.reset 0", "stream.end 0"}, // so that it comes back for all
					"18446744073709551615-1-1": {"stream.reset 0", "stream.end 0"},
				} {
					a := s.get(pathOf(id, "/events?after="+cursor))
					if tc.call == "Job" { // nobody knows the job: the same question must come again
						require.NotContains(t, a.body, "\nid:")
					} else {
						require.Equal(t, want, said(eventsOf(t, a.body)), cursor)
					}
					require.NotContains(t, a.body, "18446744073709551615")
				}
				require.Equal(t, 200, s.do("HEAD", pathOf(id, "/events"), "").StatusCode)

				a := s.get(pathOf(id, "/events"), "Accept", ndjsonType)
				s.problem(a, tc.status, tc.name)
				require.Equal(t, tc.status != 500, a.Header.Get("Retry-After") != "")
				if tc.call != "" {
					s.problem(s.get(pathOf(id, "/events"), "Accept", jsonType), tc.status, tc.name)
				}
			})
		})
	}
}

// What ends in the middle says why, and what to come back with.
func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(*service)
		reason string
	}{
		"drain":  {func(s *service) { close(s.quit) }, "drain"},
		"outage": {func(s *service) { s.fail("Next", job.Problemf("storage-unavailable", "")); s.wake() }, "outage"},
		"busy":   {func(s *service) { s.fail("Next", job.Problemf("rate-limited", "")); s.wake() }, "busy"},
		"a bug":  {func(s *service) { s.fail("Next", errors.New("secret")); s.wake() }, "outage"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				s.id = goldenJob
				s.submit()
				stream, lines := s.stream(pathOf(goldenJob, "/events")), s.stream(pathOf(goldenJob, "/events?format=ndjson"))
				defer stream.quit()
				defer lines.quit()
				stream.frame()
				lines.line()
				synctest.Wait()
				tc.end(s)
				if tc.reason != "drain" {
					stream.frame() // the event that woke it
					lines.line()
				}
				rest, err := io.ReadAll(stream.in)
				require.NoError(t, err, "a clean end")
				events := eventsOf(t, string(rest))
				require.Len(t, events, 1)
				require.Equal(t, s.now(goldenJob).Cursor, events[0].Cursor())
				require.Equal(t, job.StreamEnd, events[0].Type)
				require.Equal(t, `{"reason":"`+tc.reason+`"}`, string(events[0].Data))
				require.Contains(t, string(rest), "retry: ")
				require.NotContains(t, string(rest), "secret")

				rest, err = io.ReadAll(lines.in)
				require.NoError(t, err)
				require.Equal(t, said(events), said(linesOf(t, string(rest))))
			})
		})
	}
}

// A stream that ends before the reader could be told to start over tells it so all the
// same: its cursor is none to come back with.
func TestEndsBeforeTheReset(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.fail("Next", job.Problemf("storage-unavailable", ""))
		want := []string{"stream.reset 0", "stream.end 0"}
		for _, cursor := range []string{"garbage", "7-7-7", "18446744073709551615-18446744073709551615-4294967295"} {
			require.Equal(t, want, said(eventsOf(t, s.get(pathOf(id, "/events?after="+cursor)).body)))
			require.Equal(t, want, said(linesOf(t, s.get(pathOf(id, "/events?format=ndjson&after="+cursor)).body)))
		}
	})
}

// wake gives the golden job an event, so that its readers ask for the next.
func (s *service) wake() { s.begin(goldenJob) }

// The more streams there are, the later and the further apart those that are sent
// away come back.
func TestRetryGrows(t *testing.T) {
	a := &API{Streams: 100}
	most := func(open int64) (d time.Duration) {
		a.open.Store(open)
		for range 1000 {
			r := a.retry()
			require.GreaterOrEqual(t, r, minRetry)
			d = max(d, r)
		}
		return d
	}
	require.LessOrEqual(t, most(0), firstRetry)
	half, full := most(50), most(100)
	require.Greater(t, half, firstRetry)
	require.Greater(t, full, half)
	require.LessOrEqual(t, most(1000), maxRetry)
}

// A wait takes a place like a stream. Without one there is no wait, and no error
// either: it was a preference.
func TestBusyWaits(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		for range 3 {
			defer s.stream(pathOf(id, "/events")).quit()
		}
		begin := time.Now()
		for _, path := range []string{"", "/result", "/events?format=json&after=1-100-1"} {
			a := s.get(pathOf(id, path), "Prefer", "wait=10")
			require.Less(t, a.StatusCode, 300, path)
			require.Empty(t, a.Header.Values("Preference-Applied"), path)
		}
		a := s.post("/v1/jobs", `{"kind":"report","input":1}`, "Prefer", "respond-async, wait=10")
		require.Equal(t, 202, a.StatusCode)
		require.Zero(t, time.Since(begin))
		require.Equal(t, "respond-async", a.Header.Get("Preference-Applied"))
	})
}

// A job that is damaged will not come back by waiting: its readers hear that by a status,
// which ends an EventSource.
func TestDamagedIsNotWaitedFor(t *testing.T) {
	for _, call := range []string{"Job", "Open"} {
		serve(t, func(t *testing.T, s *service) {
			id := s.submit()
			s.begin(id)
			s.fail(call, fmt.Errorf("%w (why)", job.ErrDamaged))
			for _, accept := range []string{sseType, ndjsonType, jsonType} {
				a := s.get(pathOf(id, "/events"), "Accept", accept)
				s.problem(a, 500, "job-damaged")
				require.Empty(t, a.Header.Get("Retry-After"))
				require.NotContains(t, a.body, "why")
			}
		})
	}
}

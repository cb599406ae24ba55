package handlers

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// pages reads all pages of a job.
func (s *service) pages(id job.ID, query string) (events []string) {
	s.t.Helper()
	cursor, done := "", false
	for !done {
		var page []string
		page, cursor, done = pageOf(s.t, s.get(pathOf(id, "/events"+query+"&format=json&after="+cursor)))
		events = append(events, page...)
	}
	return events
}

func TestPageLimits(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		for n := range 150 {
			s.progress(id, n)
		}
		page, cursor, done := pageOf(t, s.get(pathOf(id, "/events?format=json")))
		require.Len(t, page, 100)
		require.Equal(t, "100-199-1", cursor)
		require.False(t, done)
		page, _, _ = pageOf(t, s.get(pathOf(id, "/events?format=json&limit=1000&after="+cursor)))
		require.Len(t, page, 52)
		page, _, _ = pageOf(t, s.get(pathOf(id, "/events?format=json&limit=3&after=x")))
		require.Equal(t, []string{"stream.reset 0", "job.queued 1", "job.running 2", "job.progress 3"}, page)
		for _, limit := range []string{"0", "1001", "-1", "x", "1e2"} {
			s.problem(s.get(pathOf(id, "/events?format=json&limit="+limit)), 400, "invalid-request")
		}
		for _, wait := range []string{"-1", "x", "1s"} {
			s.problem(s.get(pathOf(id, "/events?format=json&wait="+wait)), 400, "invalid-request")
		}
	})
}

// A page that ends with the last event says that it was the last.
func TestLastPage(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		for limit, last := range map[string]bool{"2": false, "3": true, "4": true} {
			_, _, done := pageOf(t, s.get(pathOf(id, "/events?format=json&limit="+limit)))
			require.Equal(t, last, done, limit)
		}
	})
}

// A page ends with the event that makes it large.
func TestLargePage(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		large := []byte(`"` + strings.Repeat("x", 200<<10) + `"`)
		for range 12 {
			s.add(id, job.Record{Type: "large", Data: large})
		}
		a := s.get(pathOf(id, "/events?format=json&after=1-100-1"))
		page, cursor, _ := pageOf(t, a)
		require.Len(t, page, 7)
		require.Less(t, len(a.body), maxPage+256<<10)
		page, _, _ = pageOf(t, s.get(pathOf(id, "/events?format=json&after="+cursor)))
		require.Len(t, page, 6)
		page, _, _ = pageOf(t, s.get(pathOf(id, "/events?format=json&after=x")))
		require.Equal(t, []string{"stream.reset 0", "job.queued 1", "job.running 2", "large 3", "large 4", "large 5", "large 6", "large 7", "large 8"}, page)
	}, func(a *API) { a.Store.(*world).budget = 16 << 20 })
}

// A long poll of a page ends with the first event that passes, and never in an
// error because of the wait.
func TestPageWait(t *testing.T) {
	for name, tc := range map[string]struct {
		query, prefer string
		event, drain  time.Duration
		want          []string
		cursor        string
		took          time.Duration
	}{
		"event":              {"", "wait=20", 7 * time.Second, 0, []string{"job.progress 3"}, "3-102-1", 7 * time.Second},
		"none":               {"", "wait=20", 0, 0, nil, "2-101-1", 20 * time.Second},
		"none in the query":  {"&wait=20", "", 0, 0, nil, "2-101-1", 20 * time.Second},
		"the query wins":     {"&wait=3", "wait=20", 7 * time.Second, 0, nil, "2-101-1", 3 * time.Second},
		"too long":           {"&wait=500", "", 0, 0, nil, "2-101-1", 30 * time.Second},
		"no wait":            {"", "", 7 * time.Second, 0, nil, "2-101-1", 0},
		"filtered":           {"&types=token", "wait=20", 7 * time.Second, 0, nil, "3-102-1", 20 * time.Second},
		"drain":              {"", "wait=20", 0, 5 * time.Second, nil, "2-101-1", 5 * time.Second},
		"a reset is told":    {"&lastEventId=x", "wait=20", 7 * time.Second, 0, []string{"stream.reset 0", "job.queued 1", "job.running 2"}, "2-101-1", 0},
		"a snapshot is told": {"&last_event_id=latest", "wait=20", 7 * time.Second, 0, []string{"stream.reset 2"}, "2-101-1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.begin(id)
				if tc.event > 0 {
					time.AfterFunc(tc.event, func() { s.progress(id, 1) })
				}
				if tc.drain > 0 {
					time.AfterFunc(tc.drain, func() { close(s.quit) })
				}
				begin := time.Now()
				a := s.get(pathOf(id, "/events?format=json&after=2-101-1"+tc.query), "Prefer", tc.prefer)
				page, cursor, done := pageOf(t, a)
				require.Equal(t, tc.want, page)
				require.Equal(t, tc.cursor, cursor)
				require.False(t, done)
				require.Equal(t, tc.took, time.Since(begin))
				require.Equal(t, !strings.Contains(tc.query, "wait=") && tc.prefer != "", a.Header.Get("Preference-Applied") == "wait=20")
			})
		})
	}
}

// busyReader finds its first event after a while, in which it says that it is at work.
type busyReader struct {
	tape.Reader
	at    job.Cursor
	looks int
}

func (r *busyReader) Cursor() job.Cursor { return r.at }

func (r *busyReader) Cap(int) {}

func (r *busyReader) Next(context.Context, <-chan time.Time) (tape.Block, error) {
	switch r.looks--; {
	case r.looks > 0:
		return tape.Block{Last: r.at}, nil
	case r.looks < 0:
		return tape.Block{}, nil // nothing more
	}
	e := job.Event{Job: job.NewID(), Place: job.Place{Position: 9, Epoch: 1}, Record: job.Record{Seq: 1, Type: job.Queued, Time: time.Now(), Data: []byte("{}")}}
	r.at = e.Cursor()
	return tape.Encode(e), nil
}

// A page whose first event takes long to find has it: one with nothing, and the cursor that was
// asked for, would never come to it.
func TestPageOfManyGetsSomewhere(t *testing.T) {
	p := &page{limit: 10}
	r := &busyReader{at: job.Cursor{Seq: 1, Place: job.Place{Position: 1, Epoch: 1}}, looks: 3}
	wait := &patience{time.NewTimer(0)}
	require.NoError(t, p.read(t.Context(), r, wait))
	require.Len(t, p.events, 1)
	require.Equal(t, "1-9-1", p.cursor)
}

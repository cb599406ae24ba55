package handlers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// submitAs stores a job with labels.
func (s *service) submitAs(kind, batch string, tags ...string) job.ID {
	s.t.Helper()
	id := job.NewID()
	if batch != "" {
		id = job.IDIn(batch, 0)
	}
	_, err := s.Submit(context.Background(), id, &job.Request{Kind: kind, Owner: anonymous, MaxAttempts: 3, Batch: batch, Tags: tags})
	require.NoError(s.t, err)
	return id
}

// of returns what was told, and of whom.
func of(events []job.Event) (s []string) {
	for _, e := range events {
		id := ""
		if e.Cursor() != (job.Cursor{}) {
			id = " " + e.Cursor().String()
		}
		s = append(s, fmt.Sprintf("%s %s%s", e.Job, e.Type, id))
	}
	return s
}

// streamOf opens a stream, and returns what reads all that has come.
func (s *service) streamOf(path string, headers ...string) (*http.Response, func() []job.Event) {
	s.t.Helper()
	resp, err := s.client.Do(s.request("GET", path, "", headers...))
	require.NoError(s.t, err)
	require.Equal(s.t, 200, resp.StatusCode)
	var raw strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&raw, bufio.NewReader(resp.Body))
	}()
	return resp, func() []job.Event {
		synctest.Wait()
		return unnumbered(s.t, raw.String())
	}
}

// unnumbered returns the events of a stream's body, of which some have no id.
func unnumbered(t *testing.T, body string) (events []job.Event) {
	t.Helper()
	for line := range strings.SplitSeq(body, "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var e job.Event
			require.NoError(t, e.UnmarshalJSON([]byte(data)))
			events = append(events, e)
		}
	}
	return events
}

// The whole way of a reader: snapshots, events, a cut, the rest, and 204.
func TestManyJobsFromOpeningToEnd(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		a, b := s.submitAs("report", ""), s.submitAs("resize", "")
		other := s.submitAs("report", "")
		gone := job.NewID()
		path := fmt.Sprintf("/v1/events?job=%s,%s&job=%s", a, b, gone)
		resp, told := s.streamOf(path)
		s.begin(other)
		s.begin(a)
		opening := of(told())
		require.Equal(t, string(gone)+" stream.erased", opening[0])
		require.ElementsMatch(t, []string{string(a), string(b)}, []string{strings.Fields(opening[1])[0], strings.Fields(opening[2])[0]})
		require.Len(t, strings.Fields(opening[1]), 2, "no id: who is cut here is told again")
		require.True(t, strings.HasSuffix(opening[2], " stream.reset 1-3-1"), opening[2])
		require.Equal(t, string(a)+" job.running 2-5-1", opening[3])
		require.Len(t, opening, 4)
		require.NoError(t, resp.Body.Close())

		s.succeed(a, `"done"`)
		s.begin(b)
		s.succeed(b, `"done"`)
		want := []string{string(a) + " job.succeeded 3-6-1", string(b) + " job.running 2-7-1", string(b) + " job.succeeded 3-8-1"}
		rest := of(unnumbered(t, s.get(path, "Last-Event-ID", "2-5-1").body))
		require.Equal(t, append([]string{string(gone) + " stream.erased"}, want...), rest)
		require.Equal(t, want, of(linesOf(t, s.get(path+"&after=2-5-1", "Accept", ndjsonType).body))[1:])

		var p struct {
			Events []job.Event
			Cursor string
			Done   bool
		}
		s.get(path+"&after=2-5-1&limit=2", "Accept", jsonType).into(t, &p)
		require.Equal(t, want[:2], of(p.Events))
		require.Equal(t, "2-7-1", p.Cursor)
		require.False(t, p.Done)
		s.get(path+"&after=2-7-1", "Accept", jsonType).into(t, &p)
		require.Equal(t, want[2:], of(p.Events))
		require.True(t, p.Done)

		over := s.get(path, "Last-Event-ID", "3-8-1")
		require.Equal(t, 204, over.StatusCode)
		require.Equal(t, 204, s.get(path+"&after=3-8-1", "Accept", ndjsonType).StatusCode)

		conn, _, err := websocket.Dial(t.Context(), "ws://localhost"+path+"&after=2-7-1", &websocket.DialOptions{HTTPClient: s.client})
		require.NoError(t, err)
		var messages []job.Event
		for {
			_, m, err := conn.Read(t.Context())
			if err != nil {
				require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
				break
			}
			var e job.Event
			require.NoError(t, e.UnmarshalJSON(m))
			messages = append(messages, e)
		}
		require.Equal(t, want[2:], of(messages)[1:])
	})
}

// What is not selected moves the reader's place all the same: a heartbeat tells it, and so
// does a page.
func TestManyJobsPlaceMoves(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		a := s.submitAs("report", "")
		b := s.submitAs("resize", "")
		resp, err := s.client.Do(s.request("GET", "/v1/events?kind=resize", ""))
		require.NoError(t, err)
		in := bufio.NewReader(resp.Body)
		line := ""
		for line != "id: 1-2-1\n" {
			line, err = in.ReadString('\n')
			require.NoError(t, err)
		}
		s.begin(a)
		for line = ""; !strings.HasPrefix(line, "id: "); {
			line, err = in.ReadString('\n')
			require.NoError(t, err)
		}
		require.Equal(t, "id: 2-3-1\n", line)
		require.NoError(t, resp.Body.Close())
		var p struct {
			Events []job.Event
			Cursor string
		}
		s.get("/v1/events?kind=resize&after=1-2-1&wait=5", "Accept", jsonType).into(t, &p)
		require.Empty(t, p.Events)
		require.Equal(t, "2-3-1", p.Cursor)
		s.begin(b)
		s.get("/v1/events?kind=resize&after="+p.Cursor, "Accept", jsonType).into(t, &p)
		require.Equal(t, []string{string(b) + " job.running 2-4-1"}, of(p.Events))
	})
}

// A cursor that is none is told with what the jobs are now; and if there is none, that there
// is none.
func TestManyJobsBadCursor(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		require.Equal(t, []string{" stream.reset 0-0-1"}, of(s.firstPage("")))
		a := s.submitAs("report", "")
		for _, after := range []string{"", "latest", "x", "9-99-1", "1-1-7"} {
			got := s.firstPage("?after=" + after)
			require.Equal(t, []string{string(a) + " stream.reset 1-1-1"}, of(got), after)
			require.Equal(t, after == "" || after == "latest", strings.Contains(string(got[0].Data), `"reason":"latest"`), after)
			require.Contains(t, string(got[0].Data), `"first":null,"job":{"id":"`+string(a))
		}
	})
}

func (s *service) firstPage(query string) []job.Event {
	s.t.Helper()
	var p struct{ Events []job.Event }
	s.get("/v1/events"+query, "Accept", jsonType).into(s.t, &p)
	return p.Events
}

// A result is told by reference, and of very many jobs only the newest.
func TestManyJobsSnapshotsAreBounded(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		a := s.submitAs("report", "")
		s.begin(a)
		s.succeed(a, `"small"`)
		require.Contains(t, string(s.firstPage("")[0].Data), `"result":{"href":"/v1/jobs/`+string(a)+`/result"`)
		for range maxSnapshots {
			s.submitAs("report", "")
		}
		time.Sleep(time.Minute)
		newest := s.submitAs("report", "")
		got := s.firstPage("")
		require.Len(t, got, maxSnapshots)
		require.Equal(t, newest, got[0].Job)
		require.Contains(t, string(got[maxSnapshots-1].Data), `"truncated":true`)
		require.NotContains(t, string(got[0].Data), "truncated")
	})
}

// What cannot be asked for is told in words.
func TestManyJobsRefuses(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		for query, want := range map[string]string{
			"?job=":                           "job:",
			"?job=x":                          "job:",
			"?job=" + string(goldenJob) + ",": "job:",
			"?tags=x":                         `no parameter "tags"`,
			"?status=running":                 `no parameter "status"`,
			"?kind=a.b":                       "kind: must be",
			"?batch=a&batch=b":                "batch: must be there at most 1",
			"?format=xml":                     "format:",
			"?names=maybe":                    "names:",
		} {
			p := s.problem(s.get("/v1/events"+query), 400, "invalid-request")
			require.Contains(t, p.Detail, want, query)
		}
		var ids []string
		for range maxNamed + 1 {
			ids = append(ids, string(job.NewID()))
		}
		require.Contains(t, s.problem(s.get("/v1/events?job="+strings.Join(ids, ",")), 400, "invalid-request").Detail, "at most 500")
		s.problem(s.get("/v1/events?job="+strings.Join(ids[1:], ",")), 404, "not-found")
		s.problem(s.get("/v1/events?limit=0", "Accept", jsonType), 400, "invalid-request")
		s.problem(s.do("POST", "/v1/events", ""), 405, "method-not-allowed")
	})
}

// A read token is shown its own jobs, whatever is asked for.
func TestManyJobsOfAToken(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		mine, others := s.submitAs("report", ""), s.submitAs("report", "")
		batched := s.submitAs("report", goldenBatch)
		until := time.Now().Add(time.Hour)
		of1, ofBatch := s.signer.Mint(mine, anonymous, until), s.signer.MintBatch(goldenBatch, anonymous, until)
		strangers := s.signer.Mint(mine, "somebody", until)
		for name, tc := range map[string]struct {
			token, query string
			want         []job.ID
		}{
			"a job's":                     {of1, "", []job.ID{mine}},
			"a job's, named":              {of1, "&job=" + string(mine), []job.ID{mine}},
			"a job's, beside another":     {of1, "&job=" + string(mine) + "," + string(others), []job.ID{others, mine}},
			"a job's, of another":         {of1, "&job=" + string(others), nil},
			"a job's, of another kind":    {of1, "&kind=resize", nil},
			"a batch's":                   {ofBatch, "", []job.ID{batched}},
			"a batch's, named":            {ofBatch, "&batch=" + goldenBatch, []job.ID{batched}},
			"a batch's, of one of it":     {ofBatch, "&job=" + string(batched), []job.ID{batched}},
			"a batch's, of another":       {ofBatch, "&job=" + string(mine), nil},
			"a batch's, of another batch": {ofBatch, "&batch=batch_01k3z9bbbbbbbbbbbbbbbbbbbb", nil},
			"somebody's":                  {strangers, "", nil},
		} {
			a := s.get("/v1/events?access_token="+tc.token+tc.query, "Accept", jsonType)
			if tc.want == nil {
				s.problem(a, 404, "not-found")
				continue
			}
			var p struct{ Events []job.Event }
			a.into(t, &p)
			var got []job.ID
			for _, e := range p.Events {
				if e.Job != "" {
					got = append(got, e.Job)
				}
			}
			require.Equal(t, tc.want, got, name)
		}
	})
}

// Too many streams, a server that stops and a store that fails are told as on one job's
// stream: in band, without an id, so that who comes back is told what the jobs are then.
func TestManyJobsTurnedAway(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		s.submitAs("report", "")
		resp, told := s.streamOf("/v1/events")
		busy := s.get("/v1/events")
		require.Equal(t, 200, busy.StatusCode)
		require.Contains(t, busy.body, `event: stream.end`)
		require.Contains(t, busy.body, `"id":null`)
		require.NotContains(t, busy.body, "id: ")
		require.Contains(t, s.get("/v1/events", "Last-Event-ID", "1-1-1").body, "\nid: 1-1-1\n\n")
		s.problem(s.get("/v1/events", "Accept", ndjsonType), 429, "rate-limited")
		close(s.quit)
		last := told()
		require.Equal(t, " stream.end 1-1-1", of(last)[len(last)-1])
		require.Contains(t, string(last[len(last)-1].Data), "drain")
		require.NoError(t, resp.Body.Close())
		synctest.Wait()
		s.fail("OpenMany", job.Problemf("storage-unavailable", "No."))
		require.Contains(t, s.get("/v1/events").body, `"reason":"outage"`)
	}, func(a *API) { a.Streams = 1 })
}

// What many jobs are now is looked up no faster than it is taken: a reader that is slow holds
// none of it.
func TestManyOpeningIsTakenStepByStep(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		const jobs = 500
		for range jobs {
			s.submitAs("report", "")
		}
		lookUps := func() (n int) {
			synctest.Wait()
			for _, name := range s.called() {
				if name == "Job" {
					n++
				}
			}
			return n
		}
		resp, err := s.client.Do(s.request("GET", "/v1/events", ""))
		require.NoError(t, err)
		require.Less(t, lookUps(), jobs/4)
		events := 0
		for lines := bufio.NewScanner(resp.Body); events < jobs && lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data: ") {
				events++
			}
		}
		require.Equal(t, jobs, events)
		require.Equal(t, jobs, lookUps())
		require.NoError(t, resp.Body.Close())
	})
}

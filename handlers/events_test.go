package handlers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
	"github.com/millstream/millstream/pkg/tape"
)

// events returns the events of a stream's body, as a client reads them.
func eventsOf(t *testing.T, body string) (events []job.Event) {
	t.Helper()
	for frame := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		var e job.Event
		var id, name string
		for line := range strings.SplitSeq(frame, "\n") {
			switch field, value, _ := strings.Cut(line, ": "); field {
			case "id":
				id = value
			case "event":
				name = value
			case "data":
				require.NoError(t, json.Unmarshal([]byte(value), &e))
				require.Equal(t, id, e.Cursor().String())
				require.Equal(t, name, string(e.Type))
				events = append(events, e)
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
		"latest":                  {"", "?after=latest", []string{"stream.reset 4"}},
		"latest is no id":         {"latest", "", reset},
		"other epoch":             {"2-101-2", "", reset},
		"other position":          {"2-100-1", "", reset},
		"future":                  {"5-104-1", "", reset},
		"far future":              {nowhere.String(), "", reset},
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
		"reset":              {"&lastEventId=x", "wait=20", 7 * time.Second, 0, []string{"job.progress 3"}, "3-102-1", 7 * time.Second},
		"a snapshot is told": {"&last_event_id=latest", "wait=20", 7 * time.Second, 0, []string{"job.progress 3"}, "3-102-1", 7 * time.Second},
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

// live is an open stream that is read line by line.
type live struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
	quit func()
}

func (s *service) stream(path string, header ...string) *live {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := s.client.Do(s.request("GET", path, "", header...).WithContext(ctx))
	require.NoError(s.t, err)
	return &live{s.t, resp, bufio.NewReader(resp.Body), func() { cancel(); _ = resp.Body.Close() }}
}

// line returns the next line that has something in it.
func (l *live) line() string {
	l.t.Helper()
	for {
		line, err := l.in.ReadString('\n')
		require.NoError(l.t, err)
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			return line
		}
	}
}

// frame returns the name of the next event.
func (l *live) frame() (id, name string) {
	l.t.Helper()
	for {
		line := l.line()
		switch field, value, _ := strings.Cut(line, ": "); field {
		case "id":
			id = value
		case "event":
			name = value
		case "data":
			return id, name
		}
	}
}

// A stream that has nothing to say says that it lives, every 15 s after the last
// that it said.
func TestHeartbeat(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		l.frame()
		for range 3 {
			begin := time.Now()
			require.Equal(t, ":", l.line())
			require.Equal(t, 15*time.Second, time.Since(begin))
		}
		time.Sleep(14 * time.Second)
		s.begin(id)
		l.frame()
		begin := time.Now()
		require.Equal(t, ":", l.line())
		require.Equal(t, 15*time.Second, time.Since(begin), "the event was a sign of life too")
	})
}

// A reader that is spared all events hears that the stream lives all the same,
// however many they are, and learns the id behind them.
func TestSparedReader(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		l := s.stream(pathOf(id, "/events?types=job.running"))
		defer l.quit()
		last, name := l.frame()
		require.Equal(t, "2-101-1 job.running", last+" "+name)
		begin := time.Now()
		go func() {
			for n := range 200 { // ten a second
				time.Sleep(100 * time.Millisecond)
				s.progress(id, n)
			}
		}()
		require.Regexp(t, `^id: 15\d-\d+-1$`, l.line())
		require.InDelta(t, 15*time.Second, time.Since(begin), float64(100*time.Millisecond))
		require.Equal(t, "id: 202-301-1", l.line())
		require.Equal(t, ":", l.line(), "it knows")

		rest := s.stream(pathOf(id, "/events?types=job.running"), "Last-Event-ID", "202-301-1")
		defer rest.quit()
		s.succeed(id, "1")
		last, name = rest.frame()
		require.Equal(t, "203-302-1 job.succeeded", last+" "+name)
	})
}

// Bytes come with the headers: who waits for the first event knows that the
// stream stands.
func TestFirstBytes(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		l := s.stream(pathOf(id, "/events"), "Last-Event-ID", "1-100-1")
		defer l.quit()
		require.Equal(t, 200, l.resp.StatusCode)
		field, value, _ := strings.Cut(l.line(), ": ")
		require.Equal(t, "retry", field)
		n, err := strconv.Atoi(value)
		require.NoError(t, err)
		require.True(t, n >= 2000 && n <= 5000, n)
		require.Equal(t, http.Header{
			"Content-Type":           {sse.ContentType},
			"Cache-Control":          {"no-store, no-transform"},
			"X-Accel-Buffering":      {"no"},
			"Referrer-Policy":        {"no-referrer"},
			"X-Content-Type-Options": {"nosniff"},
			"Date":                   l.resp.Header["Date"],
		}, l.resp.Header)
	})
}

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
				for cursor, back := range map[string]string{"": "0-0-0", "1-100-1": "1-100-1", "7-7-7": "7-7-7", "garbage": nowhere.String()} {
					a := s.get(pathOf(id, "/events"), "Last-Event-ID", cursor)
					require.Equal(t, 200, a.StatusCode)
					require.Equal(t, sseType, a.Header.Get("Content-Type"))
					require.NotContains(t, a.body, "secret")
					var ms int
					_, err := fmt.Sscanf(a.body, "retry: %d\nid: "+back+"\nevent: stream.end\n", &ms)
					require.NoError(t, err, a.body)
					require.True(t, 2000 <= ms && ms <= 60_000)
					require.True(t, strings.HasSuffix(a.body, `"data":{"reason":"`+tc.reason+"\"}}\n\n"), a.body)
				}
				if tc.call != "Job" {
					events := eventsOf(t, s.get(pathOf(id, "/events?after=latest")).body)
					require.Equal(t, []string{"stream.reset 2", "stream.end 2"}, said(events), "the snapshot, so that it comes back for what follows")
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

// A reader that takes nothing is given up after the write deadline, and its place
// is free again; one that left is noticed at once.
func TestGoneReaders(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		conn, err := s.wire.dial(context.Background(), "", "")
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "GET "+pathOf(id, "/events")+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		head := make([]byte, 12)
		_, err = io.ReadFull(conn, head) // and nothing after that
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, 1, s.api.open.Load())
		time.Sleep(writeTimeout)
		synctest.Wait()
		require.Zero(t, s.api.open.Load())

		left := s.stream(pathOf(id, "/events"))
		left.frame()
		left.quit()
		synctest.Wait()
		require.Zero(t, s.api.open.Load())
		require.Zero(t, s.logs.FilterMessage("stream ended").Len()+s.logs.FilterMessage("request failed").Len(), "nothing of ours is wrong")
	})
}

// A reader that takes a large block slowly, but takes it, is not cut.
func TestSlowReader(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.add(id, job.Record{Type: "large", Data: []byte(`"` + strings.Repeat("x", 250<<10) + `"`)})
		s.succeed(id, "1")
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		var got strings.Builder
		buf := make([]byte, 16<<10)
		for {
			time.Sleep(time.Second) // 16 kB a second: less than the block in one deadline
			n, err := io.ReadAtLeast(l.in, buf, len(buf))
			got.Write(buf[:n])
			if err != nil {
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				break
			}
		}
		require.Len(t, eventsOf(t, got.String()), 4)
	}, func(a *API) { a.Store.(*world).budget = 16 << 20 })
}

// On HTTP/2 a write deadline that passes ends the stream, even when there is
// nothing to write.
func TestHTTP2(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		transport := &http.Transport{DialContext: s.wire.dial, Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.client = &http.Client{Transport: transport}
		id := s.submit()
		l := s.stream(pathOf(id, "/events"))
		defer l.quit()
		require.Equal(t, 2, l.resp.ProtoMajor)
		l.frame()
		for range 4 {
			require.Equal(t, ":", l.line())
		}
		s.begin(id)
		l.frame()
		time.Sleep(10 * time.Second)
		s.succeed(id, "1")
		_, name := l.frame()
		require.Equal(t, "job.succeeded", name)
		require.Equal(t, 200, s.post("/v1/jobs", `{"kind":"report","input":1}`, "Accept", jsonType).StatusCode/202*200)
	})
}

// A stream ends when its token does, and says why; the next request is refused.
func TestTokenEnds(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		path := pathOf(id, "/events?access_token="+s.signer.Mint(id, anonymous, time.Now().Add(20*time.Second)))
		begin := time.Now()
		a := s.get(path)
		require.Equal(t, 20*time.Second, time.Since(begin))
		events := eventsOf(t, a.body)
		require.Equal(t, []string{"job.queued 1", "stream.end 1"}, said(events))
		require.Equal(t, `{"reason":"unauthorized"}`, string(events[1].Data))
		s.problem(s.get(path), 401, "unauthenticated")
	})
}

func TestWebSocket(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		p := s.problem(s.get(pathOf(s.submit(), "/events"), "Upgrade", "WebSocket", "Connection", "Upgrade"), 400, "invalid-request")
		require.Contains(t, p.Detail, "not supported by this version")
		s.problem(s.get(pathOf(s.submit(), "/events?format=xml")), 400, "invalid-request")
	})
}

// HEAD has the headers of GET and holds nothing.
func TestHeadOfEvents(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		for format, contentType := range map[string]string{"sse": sseType, "ndjson": ndjsonType, "json": jsonType} {
			a := s.do("HEAD", pathOf(id, "/events?format="+format), "")
			require.Equal(t, 200, a.StatusCode)
			require.Equal(t, contentType, a.Header.Get("Content-Type"))
		}
		require.Equal(t, 404, s.do("HEAD", pathOf(job.NewID(), "/events"), "").StatusCode)
		s.begin(id)
		s.succeed(id, "1")
		require.Equal(t, 204, s.do("HEAD", pathOf(id, "/events?after=3-102-1"), "").StatusCode)
	})
}

// A submit that is streamed is stored whatever becomes of its stream, and is not
// stored if there cannot be one.
func TestSubmitAndStream(t *testing.T) {
	ask := func(s *service) *http.Request {
		return s.request("POST", "/v1/kinds/report/jobs", "x", "Accept", sseType)
	}
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		ctx, leave := context.WithCancel(context.Background())
		resp, err := s.client.Do(ask(s).WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, pathOf(goldenJob, ""), resp.Header.Get("Location"))
		claims, err := s.signer.Verify(resp.Header.Get("Millstream-Token"))
		require.NoError(t, err)
		require.Equal(t, goldenJob, claims.Job)
		leave()
		_ = resp.Body.Close()
		synctest.Wait()
		require.Equal(t, job.StatusQueued, s.now(goldenJob).Status)
		require.NotContains(t, s.called(), "Cancel")

		s.fail("Open", job.ErrDraining)
		a := s.send(ask(s))
		require.Equal(t, 200, a.StatusCode, "it is stored: to say anything else would have it submitted again")
		require.Equal(t, []string{"stream.end 0"}, said(eventsOf(t, a.body)))
		require.NotEmpty(t, a.Header.Get("Location"))
		s.fail("Open", nil)

		for range 3 {
			defer s.stream(pathOf(goldenJob, "/events")).quit()
		}
		s.forget()
		s.problem(s.send(ask(s)), 429, "rate-limited")
		require.NotContains(t, s.called(), "Submit")
		require.Equal(t, 202, s.post("/v1/jobs", `{"kind":"report","input":1}`).StatusCode)
	})
}

// What a plain stream writes are the tape's own bytes, and a filtered one the same
// for each event.
func TestFramesAreTheTapes(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.add(id, job.Record{Type: "token", Data: []byte("\"a\\r\\n\u2028\ufeff  b\"")})
		s.succeed(id, "1")
		r, err := s.Open(context.Background(), id, job.Cursor{})
		require.NoError(t, err)
		b, err := r.Next(context.Background(), nil)
		require.NoError(t, err)
		r.Close()
		_, plain, _ := strings.Cut(s.get(pathOf(id, "/events")).body, "\n")
		require.Equal(t, string(b.Bytes), plain)
		_, filtered, _ := strings.Cut(s.get(pathOf(id, "/events?types=job.queued,job.running,token")).body, "\n")
		require.Equal(t, plain, filtered)
		var frames []tape.Frame
		for f := range b.Events() {
			frames = append(frames, f)
		}
		require.Len(t, frames, 4)
	})
}

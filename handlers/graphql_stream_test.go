package handlers

import (
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// watching returns the path of a subscription to the job's events.
func watching(id job.ID, args string) string {
	return "/graphql?query=" + url.QueryEscape(`subscription{events(job:"`+string(id)+`"`+args+`){type data}}`)
}

// watch opens a subscription over Server-Sent Events.
func (s *service) watch(id job.ID, args string, headers ...string) *live {
	s.t.Helper()
	l := s.stream(watching(id, args), append([]string{"Accept", sseType}, headers...)...)
	require.Equal(s.t, 200, l.resp.StatusCode)
	return l
}

// response returns the id and the data of the next response; "": it is complete.
func (l *live) response() (id, data string) {
	l.t.Helper()
	id, _, data = l.event()
	return id, data
}

// A subscription that has nothing to say lives as any stream does; the one that is spared
// events learns the id behind them.
func TestGraphQLHeartbeat(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		l := s.watch(id, `, types:["job.queued"]`)
		defer l.quit()
		require.Contains(t, l.line(), "retry: ")
		l.response()
		for range 3 {
			begin := time.Now()
			require.Equal(t, ":", l.line())
			require.Equal(t, 15*time.Second, time.Since(begin))
		}
		s.begin(id)
		require.Equal(t, "id: 2-101-1", l.line())
		require.Equal(t, ":", l.line(), "it knows")
		s.succeed(id, "1")
		last, data := l.response()
		require.Equal(t, `3-102-1 {"data":{"events":{"type":"job.succeeded","data":{"result":1}}},"extensions":{"id":"3-102-1"}}`, last+" "+data)
		_, data = l.response()
		require.Empty(t, data)
	})
}

// Headers come before the first event.
func TestGraphQLBeginsAtOnce(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		begin, id := time.Now(), s.submit()
		l := s.watch(id, `, after:"1-100-1"`)
		defer l.quit()
		require.Contains(t, l.line(), "retry: ")
		require.Equal(t, begin, time.Now())
	})
}

// Why a subscription ends that might go on is its last event.
func TestGraphQLEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		before func(s *service)
		during func(s *service)
	}{
		"drain":      {"drain", nil, func(s *service) { close(s.quit) }},
		"token end":  {"unauthorized", nil, func(*service) {}},
		"busy":       {"busy", func(s *service) { s.api.open.Store(3) }, nil},
		"outage":     {"outage", func(s *service) { s.fail("Open", job.Problemf("storage-unavailable", "")) }, nil},
		"no look-up": {"outage", func(s *service) { s.fail("Job", job.Problemf("storage-unavailable", "")) }, nil},
		"lost":       {"outage", func(s *service) { s.fail("Open", job.ErrNotFound) }, nil},
		"panic":      {"outage", func(s *service) { s.fail("Next", errPanic) }, nil},
		"later":      {"outage", nil, func(s *service) { s.fail("Next", job.Problemf("internal", "")); s.begin(s.only()) }},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				if tc.before != nil {
					tc.before(s)
				}
				l := s.watch(id, `, after:"1-100-1"`, "Authorization", "Bearer "+s.signer.Mint(id, anonymous, time.Now().Add(20*time.Second)))
				defer l.quit()
				if tc.during != nil {
					synctest.Wait()
					tc.during(s)
				}
				var last string
				for at, data := l.response(); data != ""; at, data = l.response() {
					require.Equal(t, "", strings.TrimPrefix(strings.TrimPrefix(at, "1-100-1"), "2-101-1"))
					last = data
				}
				require.Contains(t, last, `{"type":"stream.end","data":{"reason":"`+tc.reason+`"}}`)
				s.api.open.Store(0)
			})
		})
	}
}

// only returns the one job there is.
func (s *service) only() job.ID {
	for id := range s.jobs {
		return id
	}
	return ""
}

// An id beside the snapshot that nobody could make would win over the client's asking for
// the latest again, so there is none.
func TestGraphQLWithoutAPlace(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.fail("Job", job.Problemf("storage-unavailable", ""))
		l := s.watch(id, `, after:"latest"`)
		defer l.quit()
		at, data := l.response()
		require.Equal(t, ` {"data":{"events":{"type":"stream.end","data":{"reason":"outage"}}}}`, at+" "+data)
	})
}

// The header wins over the argument, which an EventSource repeats; the argument over the
// query, and nothing over nothing.
func TestGraphQLPlaces(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.progress(id, 1)
		s.succeed(id, "1")
		for _, tc := range []struct {
			args, query string
			headers     []string
			first       string
		}{
			{"", "", nil, "1-100-1"},
			{`, after:""`, "", nil, "1-100-1"},
			{`, after:null`, "", nil, "1-100-1"},
			{`, after:"1-100-1"`, "", nil, "2-101-1"},
			{`, after:"1-100-1"`, "&lastEventId=3-102-1", nil, "2-101-1"},
			{"", "&lastEventId=3-102-1", nil, "4-103-1"},
			{`, after:"1-100-1"`, "", []string{"Last-Event-ID", "3-102-1"}, "4-103-1"},
			{`, after:"latest"`, "", []string{"Last-Event-ID", "3-102-1"}, "4-103-1"},
			{`, after:"latest"`, "", nil, "4-103-1"}, // the snapshot
			{`, after:"3-102-9"`, "", nil, "0-0-1"},
			{`, after:"9-999-1"`, "", nil, "0-0-1"},
			{`, after:"x\ny"`, "", nil, "0-0-1"},
		} {
			l := s.stream(watching(id, tc.args)+tc.query, append([]string{"Accept", sseType}, tc.headers...)...)
			at, _ := l.response()
			require.Equal(t, tc.first, at, "%v", tc)
			l.quit()
		}
	})
}

// A reader that stalls is let go, and so is one that leaves.
func TestGraphQLReaderOfNobody(t *testing.T) {
	for name, leaves := range map[string]bool{"leaves": true, "stalls": false} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				l := s.watch(id, "")
				defer l.quit()
				l.response()
				s.begin(id)
				if leaves {
					l.quit()
				}
				for range 50 {
					s.add(id, job.Record{Type: "x", Data: []byte(`"` + strings.Repeat("x", 3000) + `"`)})
				}
				time.Sleep(15*time.Second + writeTimeout + time.Second)
				require.Zero(t, s.readers())
				require.Zero(t, s.api.open.Load())
			})
		})
	}
}

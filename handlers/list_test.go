package handlers

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// listed returns the ids on a page and its cursor, "" at the end.
func (s *service) listed(query string) (ids []job.ID, cursor string) {
	s.t.Helper()
	a := s.get("/v1/jobs" + query)
	require.Equal(s.t, 200, a.StatusCode, a.body)
	var page struct {
		Jobs   []struct{ ID job.ID }
		Cursor *string
	}
	a.into(s.t, &page)
	for _, j := range page.Jobs {
		ids = append(ids, j.ID)
	}
	if page.Cursor != nil {
		cursor = *page.Cursor
	}
	return ids, cursor
}

func TestListQueries(t *testing.T) {
	many := func(name string, n int) (q string) {
		for i := range n {
			q += "&" + name + "=x" + strconv.Itoa(i)
		}
		return "?" + q[1:]
	}
	at := time.Date(2026, 11, 22, 9, 0, 0, 5e5, time.UTC)
	place := job.ListCursor{Created: 7, ID: goldenJob}
	for query, want := range map[string]job.Query{
		"":                             {Limit: 20},
		"?":                            {Limit: 20},
		"?limit=1":                     {Limit: 1},
		"?limit=100&access_token=":     {Limit: 100},
		"?limit=&cursor=":              {Limit: 20},
		"?status=queued&status=failed": {Limit: 20, Statuses: []job.Status{job.StatusQueued, job.StatusFailed}},
		"?kind=a&tag=%C3%BCber&kind=b&tag=%f0%9f%8e%8c":                                            {Limit: 20, Selector: job.Selector{Kinds: []string{"a", "b"}, Tags: []string{"über", "🎌"}}},
		"?batch=batch_01k3z9aaaaaaaaaaaaaaaaaaaa":                                                  {Limit: 20, Selector: job.Selector{Batch: "batch_01k3z9aaaaaaaaaaaaaaaaaaaa"}},
		"?created_after=2026-11-22T10:00:00.0005%2b01:00&created_before=2026-11-22T09:00:00.0005Z": {Limit: 20, Since: at, Before: at},
		"?cursor=" + place.String():                                                                {Limit: 20, After: place},
	} {
		serve(t, func(t *testing.T, s *service) {
			if strings.Contains(query, "access_token") {
				query = strings.ReplaceAll(query, "access_token=", "")
			}
			s.listed(query)
			s.query.Since, s.query.Before = s.query.Since.UTC(), s.query.Before.UTC()
			require.Equal(t, want, s.query, query)
		})
	}
	serve(t, func(t *testing.T, s *service) {
		require.Equal(t, 200, s.get("/v1/jobs"+many("kind", maxListKinds)).StatusCode)
		require.Equal(t, 200, s.get("/v1/jobs"+many("tag", maxTags)).StatusCode)
		s.forget()
		for query, word := range map[string]string{
			"?state=queued":                         `no parameter "state"`,
			"?Status=queued":                        `no parameter "Status"`,
			"?owner=ann":                            `no parameter "owner"`,
			"?status=":                              "status: must be queued, running",
			"?status=Queued":                        "status: must be queued, running",
			"?status=queued,failed":                 "status: must be queued, running",
			"?kind=":                                "kind: must be",
			"?kind=a.b":                             "kind: must be",
			"?kind=*":                               "kind: must be",
			"?tag=":                                 "tag: must be 1 to 64 bytes",
			"?tag=%ff":                              "tag: must be 1 to 64 bytes",
			"?tag=a%00":                             "tag: must be 1 to 64 bytes",
			"?tag=" + strings.Repeat("x", 65):       "tag: must be 1 to 64 bytes",
			"?batch=":                               "batch: must be",
			"?batch=job_01k3z9aaaaaaaaaaaaaaaaaaaa": "batch: must be the id of a batch",
			"?batch=a&batch=a":                      "batch: is there twice",
			"?created_after=":                       "created_after: must be a time",
			"?created_after=yesterday":              "created_after: must be a time",
			"?created_after=1795000000":             "created_after: must be a time",
			"?created_after=2026-11-22":             "created_after: must be a time",
			"?created_before=2026-11-22T10:00:00+01:00":                                "%2B",
			"?created_before=2026-11-22T10:00:00Z&created_before=2026-11-22T10:00:00Z": "is there twice",
			"?limit=0":                        "limit: must be a number from 1 to 100",
			"?limit=101":                      "limit: must be a number from 1 to 100",
			"?limit=-1":                       "limit: must be",
			"?limit=1e1":                      "limit: must be",
			"?limit=1&limit=1":                "limit: is there twice",
			"?cursor=x":                       "cursor: must be",
			"?cursor=1-100-1":                 "cursor: must be",
			"?cursor=" + place.String() + "A": "cursor: must be",
			"?cursor=" + place.String() + "&cursor=" + place.String(): "cursor: is there twice",
			many("kind", maxListKinds+1):                              "kind: must be there at most 16 times",
			many("tag", maxTags+1):                                    "tag: must be there at most 16 times",
			"?tag=a;tag=b":                                            "separated by &",
		} {
			require.Contains(t, s.problem(s.get("/v1/jobs"+query), 400, "invalid-request").Detail, word, query)
			require.Equal(t, 400, s.do(http.MethodHead, "/v1/jobs"+query, "").StatusCode, query)
		}
		require.Empty(t, s.called())
	})
}

// A list has what each job has by itself, and is followed to its end.
func TestList(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		ids, cursor := s.listed("")
		require.Empty(t, ids)
		require.Empty(t, cursor)
		var all []job.ID
		for range 2*listReaders + 5 {
			time.Sleep(time.Millisecond)
			all = append([]job.ID{s.submit()}, all...)
		}
		s.begin(all[0])
		s.succeed(all[0], `{"a":1}`)
		a := s.get("/v1/jobs?limit=1")
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		require.Empty(t, a.Header.Get("ETag"))
		one := s.get(pathOf(all[0], "")).body
		require.Equal(t, `{"jobs":[`+one+`],"cursor":"`+job.ListCursor{Created: s.now(all[0]).CreatedAt.UnixMilli(), ID: all[0]}.String()+`"}`, a.body)
		for limit, pages := range map[int]int{1: len(all), 20: 2, len(all) - 1: 2, len(all): 1, len(all) + 1: 1} {
			var got []job.ID
			cursor, n := "", 0
			for n == 0 || cursor != "" {
				ids, cursor = s.listed("?limit=" + strconv.Itoa(limit) + "&cursor=" + cursor)
				got = append(got, ids...)
				n++
			}
			require.Equal(t, all, got, limit)
			require.Equal(t, pages, n, limit)
		}
		head := s.do(http.MethodHead, "/v1/jobs?limit=1", "")
		require.Equal(t, a.Header, head.Header)
	})
}

// What has gone between the index and the store is left out, and so is what is damaged
// and what is another than was asked for by then; a store that fails is no empty list.
func TestListLeavesOut(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id, other := s.submit(), s.submit()
		s.edit(other, func(j *job.Job) { j.Kind = "other" })
		ids, _ := s.listed("?status=queued")
		require.ElementsMatch(t, []job.ID{id, other}, ids)
		s.begin(id)
		ids, cursor := s.listed("?status=queued")
		require.Equal(t, []job.ID{other}, ids)
		require.Empty(t, cursor)
		s.edit(other, func(j *job.Job) { j.Status, j.ExpiresAt = job.StatusFailed, time.Now() })
		ids, _ = s.listed("")
		require.Equal(t, []job.ID{id}, ids, "it expires in this very millisecond")
		for _, gone := range []*job.Problem{job.ErrNotFound, job.ErrDamaged} {
			s.fail("Job", gone)
			ids, cursor = s.listed("?limit=1")
			require.Empty(t, ids)
			require.NotEmpty(t, cursor, "an empty page is not the end")
		}
		s.fail("Job", job.Problemf("storage-unavailable", ""))
		s.problem(s.get("/v1/jobs"), 503, "storage-unavailable")
	})
}

// A list is no way to fetch everybody's results: one that is not small is told by
// reference. What a page has is bounded all the same.
func TestListIsBounded(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		small, large := s.submit(), s.submit()
		for id, size := range map[job.ID]int{small: maxListed, large: maxListed + 1} {
			s.begin(id)
			s.succeed(id, `"`+strings.Repeat("x", size-2)+`"`)
		}
		var page struct{ Jobs []representation }
		s.get("/v1/jobs").into(t, &page)
		for _, j := range page.Jobs {
			if j.ID == small {
				require.Len(t, j.Result, maxListed)
			} else {
				require.JSONEq(t, string(s.now(large).Result.Reference(large)), string(j.Result))
			}
		}
		wide := []byte(`{"progress":1,"message":"` + strings.Repeat("x", 200<<10) + `"}`)
		for range 9 {
			time.Sleep(time.Millisecond)
			id := s.submit()
			s.begin(id)
			s.add(id, job.Record{Type: job.Progress, Data: wide})
		}
		ids, cursor := s.listed("?limit=100")
		require.Len(t, ids, 6)
		ids, cursor = s.listed("?limit=100&cursor=" + cursor)
		require.Len(t, ids, 5)
		require.Empty(t, cursor)
	}, func(a *API) { a.Store.(*world).budget = 16 << 20 })
}

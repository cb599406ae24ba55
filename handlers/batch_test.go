package handlers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// seen is the answer to a batch, as a client reads it.
type seen struct {
	Batch string `json:"batch"`
	Token string `json:"token"`
	Jobs  []struct {
		ID         job.ID           `json:"id"`
		Batch      string           `json:"batch"`
		Type       string           `json:"type"`
		Status     json.RawMessage  `json:"status"`
		Errors     []job.FieldError `json:"errors"`
		RetryAfter int              `json:"retry_after"`
	} `json:"jobs"`
}

func (s *service) accepted(a answer) (b seen) {
	s.t.Helper()
	require.Equal(s.t, 202, a.StatusCode, a.body)
	a.into(s.t, &b)
	require.True(s.t, job.ValidBatchID(b.Batch))
	return b
}

const one = `{"kind":"report","input":1}`

// arrayOf returns a batch of n jobs as an array, their inputs their places in it.
func arrayOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"kind":"report","input":%d}`, i)
	}
	return "[" + strings.TrimPrefix(b.String(), ",") + "]"
}

func linesOfJSON(array string) string {
	return strings.NewReplacer("[", "", "]", "\n", "},{", "}\n{").Replace(array)
}

// How many jobs a batch may have, in either form.
func TestSizeOfABatch(t *testing.T) {
	for n, status := range map[int]int{0: 400, 1: 202, 2: 202, 999: 202, 1000: 202, 1001: 413, 30_000: 413} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				for _, a := range []answer{
					s.post("/v1/jobs", arrayOf(n)),
					s.do("POST", "/v1/jobs", linesOfJSON(arrayOf(n)), "Content-Type", ndjsonType+"; charset=utf-8"),
				} {
					if status != 202 {
						s.problem(a, status, map[int]string{400: "invalid-request", 413: "too-large"}[status])
						require.NotContains(t, s.called(), "SubmitAll")
						continue
					}
					b := s.accepted(a)
					require.Len(t, b.Jobs, n)
					for i, j := range b.Jobs {
						require.Equal(t, job.IDIn(b.Batch, i), j.ID)
						require.Equal(t, b.Batch, j.Batch)
					}
					require.Equal(t, fmt.Sprint(n-1), string(s.last.Input), "in their order")
				}
			}, func(a *API) { a.Body = 1 << 20 })
		})
	}
}

// What is refused as a whole, before anything is stored.
func TestBatchRefused(t *testing.T) {
	big := strings.Repeat("x", 4<<10)
	for name, tc := range map[string]struct {
		body    string
		header  []string
		status  int
		problem string
		pointer string // of the first error; "-": there is none
	}{
		"no JSON":              {body: `[` + one, status: 400, problem: "invalid-request", pointer: "-"},
		"a comma too many":     {body: `[` + one + `,]`, status: 400, problem: "invalid-request", pointer: "-"},
		"two arrays":           {body: `[` + one + `][]`, status: 400, problem: "invalid-request", pointer: "-"},
		"not UTF-8":            {body: "[\"\xff\"," + one + "]", status: 400, problem: "invalid-request", pointer: "-"},
		"empty":                {body: ` [ ] `, status: 400, problem: "invalid-request"},
		"no line":              {header: []string{"Content-Type", ndjsonType}, body: "\n \r\n\t\n", status: 400, problem: "invalid-request"},
		"nothing":              {header: []string{"Content-Type", ndjsonType}, status: 400, problem: "invalid-request"},
		"too large":            {body: `[` + one + `,"` + big + `"]`, status: 413, problem: "too-large", pointer: "-"},
		"lines too large":      {header: []string{"Content-Type", ndjsonType}, body: one + "\n" + big, status: 413, problem: "too-large", pointer: "-"},
		"key empty":            {header: []string{"Idempotency-Key", `""`}, body: `[` + one + `]`, status: 400, problem: "invalid-request", pointer: "-"},
		"options in the query": {header: []string{"Millstream-Priority", "high"}, body: `[` + one + `]`, status: 400, problem: "invalid-request", pointer: "-"},
		"all bad":              {body: `[{"kind":"report"},7]`, status: 422, problem: "invalid-batch", pointer: "/0/input"},
		"no kind of any":       {body: `[{"kind":"nope","input":1}]`, status: 422, problem: "invalid-batch", pointer: "/0"},
		"arrays in an array":   {body: `[[` + one + `],[[]]]`, status: 422, problem: "invalid-batch", pointer: "/0"},
		"an array on a line":   {header: []string{"Content-Type", ndjsonType}, body: `[` + one + `]`, status: 422, problem: "invalid-batch", pointer: "/0"},
		"a job on two lines":   {header: []string{"Content-Type", ndjsonType}, body: "{\n\"kind\":\"report\",\"input\":1}", status: 422, problem: "invalid-batch", pointer: "/0"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				r := s.request("POST", "/v1/jobs", tc.body, append([]string{"Content-Type", jsonType}, tc.header...)...)
				if n := len(r.Header["Content-Type"]); n > 1 {
					r.Header["Content-Type"] = r.Header["Content-Type"][n-1:]
				}
				p := s.problem(s.send(r), tc.status, tc.problem)
				if tc.pointer == "-" {
					require.Empty(t, p.Errors)
				} else {
					require.Equal(t, tc.pointer, p.Errors[0].Pointer)
				}
				require.NotContains(t, s.called(), "Submit")
			})
		})
	}
}

// What one item is refused for stands in its place, with pointers that begin with it; the
// jobs around it are stored.
func TestBadItems(t *testing.T) {
	for name, tc := range map[string]struct {
		item    string
		status  int
		problem string
		pointer string // of the first error; "-": there is none
	}{
		"a number":         {`7`, 400, "invalid-request", "/1"},
		"null":             {`null`, 400, "invalid-request", "/1"},
		"a text":           {`"{[,"`, 400, "invalid-request", "/1"},
		"an array":         {`[{"kind":"report","input":1}]`, 400, "invalid-request", "/1"},
		"empty":            {`{}`, 400, "invalid-request", "/1/kind"},
		"no such kind":     {`{"kind":"nope","input":1}`, 404, "not-found", "-"},
		"unknown member":   {`{"kind":"report","input":1,"a/b":1}`, 400, "invalid-request", "/1/a~1b"},
		"unicode":          {`{"kind":"report","input":1,"tagſ":["é"]}`, 400, "invalid-request", "/1/tagſ"},
		"one member twice": {`{"kind":"report","input":{"a":[{"b":1,"b":2}]}}`, 400, "invalid-request", "/1/input/a/0/b"},
		"too deep":         {`{"kind":"report","input":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 400, "invalid-request", "/1/input" + strings.Repeat("/0", 63)},
		"bad option":       {`{"kind":"report","input":1,"tags":["a",""]}`, 400, "invalid-request", "/1/tags/1"},
		"a sender":         {`{"kind":"report","input":1,"cancel_on_disconnect":true}`, 400, "invalid-request", "/1/cancel_on_disconnect"},
		"schema":           {`{"kind":"resize","input":{"url":"x","width":0}}`, 422, "invalid-input", "/1/input/width"},
		"input too large":  {`{"kind":"resize","input":{"url":"` + strings.Repeat("x", 512) + `"}}`, 413, "too-large", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				for _, a := range []answer{
					s.post("/v1/jobs", " [ "+one+" ,\n"+tc.item+"\t,"+one+"]\n"),
					s.do("POST", "/v1/jobs", "\n"+one+"\r\n \n"+tc.item+"\n"+one, "Content-Type", ndjsonType),
				} {
					b := s.accepted(a)
					require.Len(t, b.Jobs, 3)
					require.Equal(t, job.IDIn(b.Batch, 0), b.Jobs[0].ID)
					require.Equal(t, job.IDIn(b.Batch, 2), b.Jobs[2].ID)
					bad := b.Jobs[1]
					require.Empty(t, bad.ID)
					require.Equal(t, "/problems/"+tc.problem, bad.Type)
					require.Equal(t, fmt.Sprint(tc.status), string(bad.Status))
					if tc.pointer == "-" {
						require.Empty(t, bad.Errors)
					} else {
						require.Equal(t, tc.pointer, bad.Errors[0].Pointer)
					}
				}
			})
		})
	}
}

// A line that is broken is one item's problem: an array that is would be the whole's.
func TestBrokenLines(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		b := s.accepted(s.do("POST", "/v1/jobs", one+"\n"+one[:10]+"\n"+one+one+"\n\xff\n\ufeff"+one+"\n"+one, "Content-Type", ndjsonType))
		require.Len(t, b.Jobs, 6)
		for i, j := range b.Jobs {
			if i == 0 || i == 5 {
				require.NotEmpty(t, j.ID)
				continue
			}
			require.Equal(t, []job.FieldError{{Pointer: fmt.Sprint("/", i), Detail: j.Errors[0].Detail}}, j.Errors)
		}
	})
}

// A queue that is full says when to come back; so does a batch of which nothing was
// stored, if time may mend any of it.
func TestBatchFails(t *testing.T) {
	full := job.Problemf("queue-full", "10000 jobs wait")
	full.RetryAfter = 61500 * time.Millisecond
	for name, tc := range map[string]struct {
		err     error
		status  int
		problem string
		retry   string
	}{
		"queue full": {full, 503, "queue-full", "62"},
		"store full": {job.Problemf("storage-full", ""), 507, "storage-full", ""},
		"draining":   {job.ErrDraining, 503, "draining", ""},
		"a bug":      {errors.New("secret /path/of/ours"), 500, "internal", ""},
		"too large":  {job.ErrTooLarge, 422, "invalid-batch", ""},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				s.fail("Submit", tc.err)
				a := s.post("/v1/jobs", `[`+one+`,7,`+one+`]`)
				p := s.problem(a, tc.status, tc.problem)
				require.Equal(t, []string{"/0", "/1", "/2"}, []string{p.Errors[0].Pointer, p.Errors[1].Pointer, p.Errors[2].Pointer})
				require.Equal(t, p.Status == 503 || p.Status == 507, a.Header.Get("Retry-After") != "")
				require.Equal(t, cmp.Or(tc.retry, a.Header.Get("Retry-After")), a.Header.Get("Retry-After"))
				require.NotContains(t, a.body, "secret")
				require.Equal(t, tc.status == 500, s.logs.FilterMessage("jobs of a batch not stored").Len() == 1)
			})
		})
	}
	serve(t, func(t *testing.T, s *service) {
		s.room = 2
		b := s.accepted(s.post("/v1/jobs", arrayOf(4)))
		for i, j := range b.Jobs {
			require.Equal(t, i < 2, j.ID != "")
			require.Equal(t, i >= 2, j.RetryAfter >= 2)
		}
		s.fail("SubmitAll", job.Problemf("in-progress", ""))
		s.problem(s.post("/v1/jobs", arrayOf(4)), 409, "in-progress")
	})
}

// A batch is not waited for and not streamed.
func TestBatchIsAnsweredAtOnce(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		begin := time.Now()
		a := s.post("/v1/jobs", arrayOf(2), "Prefer", "wait=10, respond-async", "Accept", sseType)
		s.accepted(a)
		require.Zero(t, time.Since(begin))
		require.Equal(t, jsonType, a.Header.Get("Content-Type"))
		require.Equal(t, "respond-async", a.Header.Get("Preference-Applied"))
		require.Equal(t, "1", a.Header.Get("Retry-After"))
		require.Empty(t, a.Header.Get("Millstream-Token"))
		require.Equal(t, "/v1/jobs?batch="+s.accepted(a).Batch, a.Header.Get("Location"))
	})
}

// The same batch with the same key is the same jobs, whichever form it has; another one is
// refused by the log, which is told that it is another one.
func TestBatchWithAKey(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		first := s.accepted(s.post("/v1/jobs", `[`+one+`, 7, {"kind":"report", "input":2}]`, "Idempotency-Key", "k"))
		a := s.do("POST", "/v1/jobs", one+"\n7\n"+`{ "kind":"report","input":2}`, "Content-Type", ndjsonType, "Idempotency-Key", `"k"`)
		require.Equal(t, "true", a.Header.Get("Idempotency-Replayed"))
		require.Equal(t, first, s.accepted(a))
		for _, other := range []string{`[` + one + `]`, `[7,` + one + `,{"kind":"report","input":2}]`, `[` + one + `,7,{"kind":"report","input":3}]`} {
			a := s.post("/v1/jobs", other, "Idempotency-Key", "k")
			require.Empty(t, a.Header.Get("Idempotency-Replayed"), other)
		}
		require.NotEqual(t, fingerprintAll([]json.RawMessage{[]byte("12"), []byte("3")}), fingerprintAll([]json.RawMessage{[]byte("1"), []byte("23")}))

		// Of jobs that were and are no more some are told, and all are a 404.
		delete(s.jobs, first.Jobs[0].ID)
		half := s.accepted(s.post("/v1/jobs", `[`+one+`,7,{"kind":"report","input":2}]`, "Idempotency-Key", "k"))
		require.Equal(t, "404", string(half.Jobs[0].Status))
		require.Equal(t, first.Jobs[2].ID, half.Jobs[2].ID)
		delete(s.jobs, first.Jobs[2].ID)
		p := s.problem(s.post("/v1/jobs", `[`+one+`,7,{"kind":"report","input":2}]`, "Idempotency-Key", "k"), 404, "not-found")
		require.Len(t, p.Errors, 3)
	})
}

// Of a batch whose sender has left nothing is stored, as long as nothing is.
func TestBatchWithoutASender(t *testing.T) {
	s := newService(t)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, s.request("POST", "/v1/jobs", arrayOf(2), "Content-Type", jsonType).WithContext(ctx))
	require.Empty(t, w.Body)
	require.Empty(t, s.called())
}

// The token of a batch reads its jobs and no other, until the last of them expires.
func TestTokenOfABatch(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		b, other := s.accepted(s.post("/v1/jobs", arrayOf(3))), s.accepted(s.post("/v1/jobs", arrayOf(1)))
		alone := s.submit()
		for _, j := range b.Jobs {
			for _, part := range []string{"", "/events?format=json"} {
				require.Equal(t, 200, s.get(pathOf(j.ID, part), "Authorization", "Bearer "+b.Token).StatusCode)
			}
		}
		for _, id := range []job.ID{other.Jobs[0].ID, alone, job.IDIn(b.Batch, 3)} {
			for _, part := range []string{"", "/events", "/result"} {
				s.problem(s.get(pathOf(id, part), "Authorization", "Bearer "+b.Token), 404, "not-found")
			}
		}
		s.problem(s.do(http.MethodPost, pathOf(b.Jobs[0].ID, "/cancel"), "", "Authorization", "Bearer "+b.Token), 403, "forbidden")
		s.problem(s.post("/v1/jobs", arrayOf(1), "Authorization", "Bearer "+b.Token), 403, "forbidden")
		elses := s.signer.MintBatch(b.Batch, "somebody else", time.Time{})
		s.problem(s.get(pathOf(b.Jobs[0].ID, ""), "Authorization", "Bearer "+elses), 404, "not-found")

		c, err := s.signer.Verify(b.Token)
		require.NoError(t, err)
		require.Equal(t, access.MaxLife, time.Until(c.Expires))
	})
	now := time.Now()
	require.Zero(t, lastExpiry([]*job.Job{{ExpiresAt: now}, {}}))
	require.Equal(t, now, lastExpiry([]*job.Job{{ExpiresAt: now.Add(-1)}, {ExpiresAt: now}, {ExpiresAt: now.Add(-2)}}))
}

// It lists its batch, and by no query anything else.
func TestTokenListsItsBatch(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		b, other := s.accepted(s.post("/v1/jobs", arrayOf(3))), s.accepted(s.post("/v1/jobs", arrayOf(1)))
		bearer := []string{"Authorization", "Bearer " + b.Token}
		for query, method := range map[string]string{
			"": "GET", "&status=queued&kind=report&limit=1": "GET", "&cursor=": "GET", "&limit=2": "HEAD",
		} {
			s.query = job.Query{}
			require.Equal(t, 200, s.do(method, "/v1/jobs?batch="+b.Batch+query, "", bearer...).StatusCode, query)
			require.Equal(t, b.Batch, s.query.Batch)
			require.Equal(t, anonymous, s.query.Owner, "a token reads no more than its owner")
		}
		s.get("/v1/jobs?batch=" + b.Batch + "&access_token=" + b.Token)
		require.Equal(t, anonymous, s.query.Owner)
		s.problem(s.get("/v1/jobs?limit=0&batch="+b.Batch, bearer...), 400, "invalid-request")

		one := s.signer.Mint(b.Jobs[0].ID, anonymous, time.Time{})
		s.forget()
		for _, query := range []string{
			"", "?", "?limit=1", "?batch=", "?batch=" + other.Batch, "?batch=" + strings.ToUpper(b.Batch), "?Batch=" + b.Batch,
			"?batch=" + b.Batch + "&batch=" + other.Batch, "?batch=" + other.Batch + "&batch=" + b.Batch, "?batch=" + b.Batch + "&batch=" + b.Batch,
			"?tag=" + b.Batch, "?cursor=" + job.ListCursor{Created: 1, ID: b.Jobs[0].ID}.String(),
		} {
			s.problem(s.get("/v1/jobs"+query, bearer...), 403, "forbidden")
		}
		s.problem(s.get("/v1/jobs?batch="+b.Batch, "Authorization", "Bearer "+one), 403, "forbidden")
		s.problem(s.get("/v1/jobs?batch=", "Authorization", "Bearer "+one), 403, "forbidden")
		s.problem(s.get("/v1/kinds?batch="+b.Batch, bearer...), 403, "forbidden")
		s.problem(s.post("/v1/jobs?batch="+b.Batch, arrayOf(1), bearer...), 403, "forbidden")
		s.problem(s.post("/v1/kinds/report/jobs?batch="+b.Batch, "1", bearer...), 403, "forbidden")
		require.Empty(t, s.called())
	})
}

// A thousand items that are wrong in a thousand ways are answered with no more than a few
// times what they are.
func TestBatchDoesNotEcho(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		item := `{"kind":"resize","input":{` + strings.Repeat(" ", 900) + `"width":0}}`
		bad := `[` + strings.Repeat(item+",", 999) + item + `]`
		require.Less(t, len(s.post("/v1/jobs", bad).body), len(bad))
		long := `{"kind":"report","` + strings.Repeat("<é>", 100_000) + `":1}`
		require.Less(t, len(s.post("/v1/jobs", `[`+long+`,`+long+`]`).body), 4096)
	}, func(a *API) { a.Body = 2 << 20 })
}

func FuzzBatch(f *testing.F) {
	f.Add(`[` + one + `,[],{"a":"]}\"],["},7]`)
	f.Add(arrayOf(3))
	f.Add(" [ ] ")
	f.Fuzz(func(t *testing.T, text string) {
		var want []json.RawMessage
		if !isArray([]byte(text)) || json.Unmarshal([]byte(text), &want) != nil {
			return
		}
		got := elements([]byte(text), len(want)+1)
		require.Equal(t, len(want), len(got))
		for i := range want {
			require.Equal(t, string(want[i]), string(got[i]))
		}
	})
}

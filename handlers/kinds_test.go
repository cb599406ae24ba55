package handlers

import (
	"context"
	"errors"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestKinds(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.problem(s.get("/v1/kinds/nope"), 404, "not-found")
		var one struct{ Name string }
		s.get("/v1/kinds/report").into(t, &one)
		require.Equal(t, "report", one.Name)
	})
	serve(t, func(t *testing.T, s *service) {
		require.Equal(t, `{"kinds":[]}`, s.get("/v1/kinds").body)
	}, func(a *API) { a.Kinds = nil })
}

// A schema that cannot be served stops the start; what it refers to is never
// opened.
func TestBadSchemas(t *testing.T) {
	for schema, word := range map[string]string{
		`{`:                                    "EOF",
		`{"type":"strin"}`:                     "",
		`{"$ref":"file:///etc/passwd"}`:        "no URLLoader set",
		`{"$ref":"http://127.0.0.1/x"}`:        "no URLLoader set",
		`{"pattern":"("}`:                      "",
		`{"properties":{"a":{"minimum":"x"}}}`: "",
	} {
		s := newService(t, func(a *API) { a.Kinds = map[string]job.Kind{"bad": {Name: "bad", Input: []byte(schema)}} })
		_, err := s.api.Handler()
		require.ErrorContains(t, err, "kind bad: input schema", schema)
		require.ErrorContains(t, err, word)
	}
}

// All that is wrong with an input is told at once, each with its place, but not
// without end.
func TestMisfits(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		p := s.problem(s.post("/v1/jobs", `{"kind":"list","input":{"a/b":[1,"x",2,null]}}`), 422, "invalid-input")
		var at []string
		for _, e := range p.Errors {
			require.NotEmpty(t, e.Detail)
			at = append(at, e.Pointer)
		}
		require.Contains(t, at, "/input/a~1b/1")
		require.Contains(t, at, "/input/a~1b/3")
		p = s.problem(s.post("/v1/kinds/list/jobs", `{"a/b":[`+strings.Repeat(`"x",`, 100)+`1]}`), 422, "invalid-input")
		require.Len(t, p.Errors, 32)
	}, func(a *API) {
		a.Kinds = map[string]job.Kind{"list": {Name: "list", Input: []byte(`{"properties":{"a/b":{"items":{"type":"integer"}}}}`)}}
	})
}

// Inputs are decoded for their schema a few bytes at a time; what waits is not
// stored yet.
func TestSchemaWaits(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		require.True(t, s.api.schemas.TryAcquire(schemaBytes))
		var group sync.WaitGroup
		group.Go(func() { require.Equal(t, 202, s.post("/v1/kinds/resize/jobs", `{"url":"x"}`).StatusCode) })
		require.Equal(t, 202, s.post("/v1/kinds/report/jobs", `{}`).StatusCode, "a kind without a schema does not wait")
		synctest.Wait()
		s.forget()
		time.Sleep(time.Minute)
		require.Empty(t, s.called())
		s.api.schemas.Release(schemaBytes)
		group.Wait()
		require.Contains(t, s.called(), "Submit")
		require.True(t, s.api.schemas.TryAcquire(schemaBytes), "all was given back")
		s.api.schemas.Release(schemaBytes)

		require.True(t, s.api.schemas.TryAcquire(schemaBytes))
		ctx, leave := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, leave)
		err := s.api.fits(ctx, s.api.kinds["resize"], []byte(`{}`), "")
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Many bombs at once take the memory of a few: each would be 46 MB.
func TestBombs(t *testing.T) {
	s := newService(t, func(a *API) {
		a.Body = 1 << 20
		a.Kinds = map[string]job.Kind{"bomb": {Name: "bomb", Input: []byte(`{"type":"object"}`)}}
	})
	h := s.handler()
	body := "[" + strings.Repeat(`{"a":0},`, 1<<17-1) + "0]"
	var done atomic.Bool
	var bombs, watch sync.WaitGroup
	for range 8 {
		bombs.Go(func() {
			r := httptest.NewRequest("POST", "http://localhost/v1/kinds/bomb/jobs", strings.NewReader(body))
			r.Header.Set("Content-Type", jsonType)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, 422, w.Code)
		})
	}
	var peak uint64
	watch.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond) // less often, and it would be the load
		defer tick.Stop()
		for m := (runtime.MemStats{}); !done.Load(); <-tick.C {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	})
	bombs.Wait()
	done.Store(true)
	watch.Wait()
	t.Logf("%d MiB at most", peak>>20)
	require.Less(t, peak, uint64(220<<20))
}

func TestHealth(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		require.Equal(t, 200, s.get("/livez").StatusCode)
		require.Equal(t, 200, s.get("/readyz").StatusCode)
		s.fail("Ready", job.ErrDraining)
		s.problem(s.get("/readyz"), 503, "draining")
		s.fail("Ready", errors.New("secret"))
		a := s.get("/readyz")
		s.problem(a, 503, "storage-unavailable")
		require.NotContains(t, a.body, "secret")
		require.Equal(t, 200, s.get("/livez").StatusCode)
		require.Equal(t, 200, s.do("HEAD", "/livez", "").StatusCode)
	})
}

// Every type of problem has a page that says what to do, and each that answers a
// request has a status.
func TestProblemPages(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		for name, title := range job.Titles {
			require.NotEmpty(t, advice[name], name)
			a := s.get("/problems/" + name)
			require.Equal(t, 200, a.StatusCode)
			require.Contains(t, a.body, name)
			require.Contains(t, strings.ReplaceAll(a.body, "&#39;", "'"), title)
		}
		require.Len(t, advice, len(job.Titles))
		for name := range statuses {
			require.Contains(t, job.Titles, name)
		}
	})
}

package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const jobJSON = `{"id":"` + string(testJob) + `","kind":"transcode","status":"running","attempt":1,"max_attempts":3,"priority":"high","key":null,"tags":["a"],
 "queue_position":null,"created_at":"2026-11-22T10:00:00.000Z","run_at":null,"started_at":"2026-11-22T10:00:01.000Z","finished_at":null,"expires_at":null,
 "cancel_requested_at":null,"progress":{"progress":42,"total":100,"message":"encoding"},"result":null,"error":null,
 "cursor":"7-18423-1","links":{"self":"/s","events":"/e","result":"/r","cancel":"/c"},"token":"t","later":"more"}`

// against returns a client of a server that answers every request with h.
func against(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, &client.Options{HTTP: srv.Client()})
	require.NoError(t, err)
	return c
}

func TestNew_refusesWhatIsNoAddress(t *testing.T) {
	for _, s := range []string{"127.0.0.1:8080", "", "localhost:8080", "ftp://host", "http://", "/path", "http://a b"} {
		_, err := client.New(s, nil)
		require.ErrorContains(t, err, "address of the server", s)
		require.ErrorContains(t, err, "http:// or https:// URL", s)
	}
}

func TestJob(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "GET /v1/jobs/"+string(testJob), r.Method+" "+r.RequestURI)
		fmt.Fprint(w, jobJSON)
	})
	j, err := c.Job(t.Context(), testJob)
	require.NoError(t, err)
	require.Equal(t, jobJSON, string(j.JSON))
	total := 100.0
	j.JSON = nil
	require.Equal(t, &client.Job{
		ID: testJob, Kind: "transcode", Status: job.StatusRunning, Attempt: 1, MaxAttempts: 3, Priority: "high", Tags: []string{"a"},
		CreatedAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), StartedAt: time.Date(2026, 11, 22, 10, 0, 1, 0, time.UTC),
		Progress: &client.Progress{Progress: 42, Total: &total, Message: "encoding"},
		Result:   []byte("null"), Cursor: "7-18423-1", Token: "t",
		Links: client.Links{Self: "/s", Events: "/e", Result: "/r", Cancel: "/c"},
	}, j)
}

func TestSubmit(t *testing.T) {
	for name, tt := range map[string]struct {
		options *client.SubmitOptions
		query   string
		ctype   string
		prefer  string
	}{
		"plain": {nil, "", "application/octet-stream", ""},
		"full": {
			&client.SubmitOptions{ContentType: "text/plain", Tags: []string{"a b", "c"}, Priority: "low", Timeout: 90 * time.Second, MaxAttempts: 2, Retention: time.Hour, Wait: 1500 * time.Millisecond},
			"?max_attempts=2&priority=low&retention=1h0m0s&tag=a+b&tag=c&timeout=1m30s", "text/plain", "wait=2",
		},
		"the usual priority, which need not be the kind's": {
			&client.SubmitOptions{Priority: "normal"}, "?priority=normal", "application/octet-stream", "",
		},
		"times": {
			&client.SubmitOptions{Delay: time.Minute, StartTimeout: time.Hour, Deadline: time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)},
			"?deadline=2026-11-22T11%3A00%3A00Z&delay=1m0s&start_timeout=1h0m0s", "application/octet-stream", "",
		},
		"later": {
			&client.SubmitOptions{RunAt: time.Date(2026, 11, 22, 11, 0, 0, 1_000_000, time.UTC)},
			"?run_at=2026-11-22T11%3A00%3A00.001Z", "application/octet-stream", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := against(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				require.Equal(t, "in\x00put", string(body))
				require.Equal(t, "POST /v1/kinds/transcode/jobs"+tt.query, r.Method+" "+r.RequestURI)
				require.Equal(t, tt.ctype, r.Header.Get("Content-Type"))
				require.Equal(t, tt.prefer, r.Header.Get("Prefer"))
				w.WriteHeader(http.StatusAccepted)
				fmt.Fprint(w, jobJSON)
			})
			j, err := c.Submit(t.Context(), "transcode", strings.NewReader("in\x00put"), tt.options)
			require.NoError(t, err)
			require.Equal(t, testJob, j.ID)
		})
	}
}

// A submit whose answer was lost is sent again if it has a key, and only then: the same
// bytes with the same key.
func TestSubmitAgain(t *testing.T) {
	for _, key := range []string{"", `my "key"`} {
		var mu sync.Mutex
		var bodies, keys []string
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			bodies, keys = append(bodies, string(body)), append(keys, r.Header.Get("Idempotency-Key"))
			if len(bodies) < 3 {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, jobJSON)
		})
		_, err := c.Submit(t.Context(), "transcode", strings.NewReader("input"), &client.SubmitOptions{Key: key})
		mu.Lock()
		defer mu.Unlock()
		if key == "" {
			require.Error(t, err)
			require.Len(t, bodies, 1)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []string{"input", "input", "input"}, bodies)
		require.Equal(t, []string{`"my \"key\""`, `"my \"key\""`, `"my \"key\""`}, keys)
	}
}

// What the server has refused is not sent again, nor what never reached one.
func TestSubmitRefused(t *testing.T) {
	asked := 0
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(http.StatusServiceUnavailable) })
	_, err := c.Submit(t.Context(), "transcode", strings.NewReader("input"), &client.SubmitOptions{Key: "k"})
	require.Error(t, err)
	require.Equal(t, 1, asked)
}

func TestCancel(t *testing.T) {
	for reason, body := range map[string]string{"": "", `too "slow"`: `{"reason":"too \"slow\""}`} {
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			got, _ := io.ReadAll(r.Body)
			require.Equal(t, "POST /v1/jobs/"+string(testJob)+"/cancel", r.Method+" "+r.RequestURI)
			require.Equal(t, body, string(got))
			require.Equal(t, reason != "", r.Header.Get("Content-Type") == "application/json")
			fmt.Fprint(w, jobJSON)
		})
		_, err := c.Cancel(t.Context(), testJob, reason)
		require.NoError(t, err)
	}
}

func TestProblems(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
		want   job.Problem
	}{
		"ours": {
			429, http.Header{"Content-Type": {"application/problem+json; charset=utf-8"}, "Retry-After": {"7"}},
			`{"type":"/problems/rate-limited","title":"Too many requests","status":200,"detail":"slow down","errors":[{"pointer":"/a","detail":"b"}]}`,
			job.Problem{Type: "/problems/rate-limited", Title: "Too many requests", Status: 429, Detail: "slow down", Errors: []job.FieldError{{Pointer: "/a", Detail: "b"}}, RetryAfter: 7 * time.Second},
		},
		"a proxy's": {
			502, http.Header{"Content-Type": {"text/html"}}, "<html>",
			job.Problem{Type: "about:blank", Title: "Bad Gateway", Status: 502, Detail: " answered 502 Bad Gateway"},
		},
		"broken": {
			500, http.Header{"Content-Type": {"application/problem+json"}}, `{"type`,
			job.Problem{Type: "about:blank", Title: "Internal Server Error", Status: 500},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var host string
			c := against(t, func(w http.ResponseWriter, r *http.Request) {
				host = r.Host
				for k, v := range tt.header {
					w.Header()[k] = v
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := c.Job(t.Context(), testJob)
			var p *job.Problem
			require.ErrorAs(t, err, &p)
			p.Detail = strings.TrimPrefix(p.Detail, host)
			require.Equal(t, tt.want, *p)
		})
	}
}

func TestAnswersThatAreNoJob(t *testing.T) {
	for _, body := range []string{"", "<html>", "{}", "null", `{"id":7}`} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		_, err := c.Job(t.Context(), testJob)
		require.ErrorContains(t, err, "answer of", body)
	}
}

// TestNames are never sent: a path of the caller's making could ask for another
// resource.
func TestNames(t *testing.T) {
	c := against(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	_, err := c.Job(t.Context(), "../kinds")
	require.ErrorIs(t, err, job.ErrNotFound)
	_, err = c.Submit(t.Context(), "../x", nil, nil)
	require.ErrorIs(t, err, job.ErrNotFound)
}

func TestProbes(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	require.NoError(t, c.Live(t.Context()))
	require.Error(t, c.Ready(t.Context()))
}

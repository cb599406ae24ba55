package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const leaseJSON = `{"leases":[{"lease":"a.b.c","expires_at":"2026-11-22T10:00:31.000Z","timeout_at":"2026-11-22T10:15:01.000Z",
 "job":{"id":"` + string(testJob) + `","kind":"resize","status":"running","attempt":2,"input":%s,"input_type":"%s"},"checkpoint":%s}]}`

func TestLease(t *testing.T) {
	for _, tc := range []struct{ input, mediaType, want string }{
		{`{"a":1}`, "application/json", `{"a":1}`},
		{`"text"`, "application/json", `"text"`},
		{`"text"`, "text/plain", `text`},
		{`{"base64":"AAE=","type":"image/png"}`, "image/png", "\x00\x01"},
	} {
		for _, checkpoint := range []string{`null`, `{"page":4}`} {
			c := against(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				require.Equal(t, `{"kinds":["resize"],"max":1,"worker":"w-7"}`, string(body))
				require.Equal(t, "wait=20", r.Header.Get("Prefer"))
				w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:01 GMT")
				fmt.Fprintf(w, leaseJSON, tc.input, tc.mediaType, checkpoint)
			})
			leases, err := c.Lease(t.Context(), &client.LeaseOptions{Kinds: []string{"resize"}, Worker: "w-7", Wait: 20 * time.Second})
			require.NoError(t, err)
			require.Len(t, leases, 1)
			l := leases[0]
			require.Equal(t, testJob, l.Job.ID)
			require.Equal(t, tc.want, string(l.Input))
			require.Equal(t, tc.mediaType, l.InputType)
			require.Equal(t, checkpoint != "null", l.Checkpoint != nil)
			require.Equal(t, 30*time.Second, l.Life, "by the clock of the server")
			require.Equal(t, 15*time.Minute, l.Timeout)
		}
	}
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	require.Empty(t, leases)
}

func TestReport(t *testing.T) {
	var path, body string
	var lost bool
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/leases" {
			fmt.Fprintf(w, leaseJSON, "1", "application/json", "null")
			return
		}
		b, _ := io.ReadAll(r.Body)
		path, body = r.URL.Path, string(b)
		if lost {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(409)
			_, _ = w.Write(job.ErrLeaseLost.JSON())
			return
		}
		fmt.Fprint(w, `{"expires_at":"2026-11-22T10:00:31.000Z","cancel":true}`)
	})
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	s, err := c.Report(t.Context(), leases[0], job.Said{Type: job.Log, Data: []byte(`{"line":"<x> & y"}`)}, job.Said{Type: job.Queued})
	require.NoError(t, err)
	require.True(t, s.Cancel)
	require.Equal(t, "/v1/leases/a.b.c/events", path)
	require.Equal(t, `[{"type":"job.log","data":{"line":"<x> & y"}},{"type":"job.queued"}]`, body)
	_, err = c.Report(t.Context(), leases[0])
	require.NoError(t, err)
	require.Equal(t, `[]`, body)
	lost = true
	_, err = c.Report(t.Context(), leases[0])
	require.ErrorIs(t, err, job.ErrLeaseLost)
	require.False(t, c.Passing(err))
}

// The lease has the value of a JSON input, and the server the bytes.
func TestLeaseOfJSON(t *testing.T) {
	body := "{ \"a\" : \"\\u003cb>\" }\n"
	var asked atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/leases" {
			fmt.Fprintf(w, leaseJSON, `{"a":"\u003cb>"}`, "application/geo+json", "null")
			return
		}
		require.Equal(t, "/v1/leases/a.b.c/input", r.URL.Path)
		w.Header().Set("ETag", `"abc"`)
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = io.WriteString(w, body[:7])
			_ = http.NewResponseController(w).Flush() // without a byte of an answer net/http itself may ask again, or not
			panic(http.ErrAbortHandler)
		}
		require.Equal(t, "bytes=7-", r.Header.Get("Range"))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	})
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	require.JSONEq(t, body, string(leases[0].Input))
	in, err := c.OpenInput(t.Context(), leases[0])
	require.NoError(t, err)
	got, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, body, string(got))
	require.NoError(t, in.Close())
	require.EqualValues(t, 2, asked.Load())
}

func TestLeaseOfJSON_lost(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/leases" {
			fmt.Fprintf(w, leaseJSON, `1`, "application/json", "null")
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write(job.ErrLeaseLost.JSON())
	})
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	_, err = c.OpenInput(t.Context(), leases[0])
	require.ErrorIs(t, err, job.ErrLeaseLost)
}

// A large input is read from where it is, over as many connections as it takes.
func TestLeaseOfLargeInput(t *testing.T) {
	body := strings.Repeat("0123456789", 100_000)
	var asked atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/leases" {
			fmt.Fprintf(w, leaseJSON, `{"href":"/v1/leases/a.b.c/input","size":1000000,"type":"x/y","sha256":"abc"}`, "x/y", "null")
			return
		}
		require.Equal(t, "/v1/leases/a.b.c/input", r.URL.Path)
		w.Header().Set("ETag", `"abc"`)
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Length", "1000000")
			_, _ = io.WriteString(w, body[:400_000])
			panic(http.ErrAbortHandler)
		}
		require.Equal(t, `"abc"`, r.Header.Get("If-Range"))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	})
	leases, err := c.Lease(t.Context(), &client.LeaseOptions{})
	require.NoError(t, err)
	l := leases[0]
	require.Empty(t, l.Input)
	require.Equal(t, &job.Upload{Size: 1_000_000, SHA256: "abc"}, l.Upload)
	in, err := c.OpenInput(t.Context(), l)
	require.NoError(t, err)
	got, err := io.ReadAll(in)
	require.NoError(t, err)
	require.True(t, body == string(got))
	require.NoError(t, in.Close())
	require.EqualValues(t, 2, asked.Load())
}

package client_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const otherJob = job.ID("job_01k3z9bbbbbbbbbbbbbbbbbbbb")

// of returns the n-th event of the log, which is one of a job.
func of(id job.ID, seq, n int, t job.Type) job.Event {
	return job.Event{Job: id, Place: job.Place{Position: uint64(n), Epoch: 1}, Record: job.Record{Seq: uint64(seq), Type: t, Attempt: 1}}
}

// snapshot is a stream.reset without an id.
func snapshot(id job.ID, status job.Status) string {
	e := job.Event{Job: id, Record: job.Record{Type: job.StreamReset, Data: job.MustData(map[string]any{"job": map[string]any{"status": status}})}}
	return fmt.Sprintf("event: stream.reset\ndata: %s\n\n", e.AppendAside(nil))
}

// Streams of many jobs are resumed behind the last id, be it an event's or only the place that
// a heartbeat told, and end when the jobs that were named are over.
func TestEventsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.RequestURI()+" "+r.Header.Get("Last-Event-ID"))
			begin(w, time.Second)
			switch len(asked) {
			case 1:
				_, _ = io.WriteString(w, snapshot(testJob, job.StatusRunning))
			case 2:
				_, _ = io.WriteString(w, snapshot(testJob, job.StatusRunning))
				last := of(otherJob, 1, 4, job.StreamReset)
				_, _ = io.WriteString(w, frame(last)+frame(of(testJob, 3, 5, job.Progress)))
			case 3:
				_, _ = io.WriteString(w, "id: 9-9-1\n\n")
			case 4:
				_, _ = io.WriteString(w, frame(of(otherJob, 2, 10, job.Canceled))+frame(of(testJob, 4, 11, job.Succeeded)))
			}
		}), client.Options{})
		defer stop()
		var got []string
		for e, err := range c.EventsOf(t.Context(), client.Selection{Jobs: []job.ID{testJob, otherJob}, Tags: []string{"a b"}}, "") {
			require.NoError(t, err)
			got = append(got, fmt.Sprint(e.Job, " ", e.Type, " ", e.ID))
		}
		require.Equal(t, []string{
			string(testJob) + " stream.reset ", string(testJob) + " stream.reset ", string(otherJob) + " stream.reset 1-4-1",
			string(testJob) + " job.progress 3-5-1", string(otherJob) + " job.canceled 2-10-1", string(testJob) + " job.succeeded 4-11-1",
		}, got)
		uri := "/v1/events?job=" + string(testJob) + "%2C" + string(otherJob) + "&tag=a+b "
		require.Equal(t, []string{uri, uri, uri + "3-5-1", uri + "9-9-1"}, asked)
	})
}

// Jobs that are over already, or gone, are waited for no longer.
func TestEventsOf_over(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, "after=7-7-1&batch=b&job="+string(testJob)+"%2C"+string(otherJob)+"&kind=k", r.URL.RawQuery)
			begin(w, time.Second)
			gone := job.Event{Job: otherJob, Record: job.Record{Type: job.StreamErased}}
			_, _ = fmt.Fprintf(w, "event: stream.erased\ndata: %s\n\n%s", gone.AppendAside(nil), snapshot(testJob, job.StatusFailed))
		}), client.Options{})
		defer stop()
		n := 0
		for _, err := range c.EventsOf(t.Context(), client.Selection{Jobs: []job.ID{testJob, otherJob}, Kinds: []string{"k"}, Batch: "b"}, "7-7-1") {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 2, n)
	})
}

// A refusal is the last thing that is said, and an event without its id is none.
func TestEventsOf_refused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []func(http.ResponseWriter){
			func(w http.ResponseWriter) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"type":"/problems/invalid-request","title":"t","status":400,"detail":"kind: no"}`)
			},
		}
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answers[0](w) }), client.Options{})
		defer stop()
		for _, err := range c.EventsOf(t.Context(), client.Selection{}, "") {
			require.ErrorContains(t, err, "kind: no")
		}
	})
}

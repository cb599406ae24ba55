package client_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

const batchJSON = `{"batch":"batch_01k3z9aaaaaaaaaaaaaaaaaaaa","token":"t","jobs":[` + jobJSON + `,{"type":"/problems/queue-full","title":"full","status":503,"retry_after":3}]}`

// A batch is sent as it is, and again if its answer was lost and it has a key.
func TestSubmitBatch(t *testing.T) {
	for _, key := range []string{"", "k"} {
		var asked atomic.Int64
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			require.Equal(t, "POST /v1/jobs", r.Method+" "+r.RequestURI)
			require.Equal(t, "application/x-ndjson", r.Header.Get("Content-Type"))
			require.Equal(t, "{}\n{}\n", string(body))
			if asked.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			require.Equal(t, `"k"`, r.Header.Get("Idempotency-Key"))
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, batchJSON)
		})
		b, err := c.SubmitBatch(t.Context(), strings.NewReader("{}\n{}\n"), key)
		if key == "" {
			require.Error(t, err)
			require.EqualValues(t, 1, asked.Load())
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, 2, asked.Load())
		require.Equal(t, "batch_01k3z9aaaaaaaaaaaaaaaaaaaa", b.ID)
		require.Equal(t, "t", b.Token)
		require.Equal(t, batchJSON, string(b.JSON))
		require.Len(t, b.Jobs, 2)
		require.Equal(t, testJob, b.Jobs[0].Job.ID)
		require.Nil(t, b.Jobs[0].Problem)
		require.Nil(t, b.Jobs[1].Job)
		require.ErrorIs(t, b.Jobs[1].Problem, job.ErrQueueFull)
	}
}

func TestAnswersThatAreNoBatch(t *testing.T) {
	for _, body := range []string{"", "<html>", "{}", "null", `{"batch":7}`, `{"batch":"b","jobs":[7]}`, `{"batch":"b","jobs":[{"id":7}]}`} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		_, err := c.SubmitBatch(t.Context(), strings.NewReader("{}"), "")
		require.ErrorContains(t, err, "answer of", body)
	}
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"type":"/problems/invalid-batch"}`)
	})
	_, err := c.SubmitBatch(t.Context(), strings.NewReader("{}"), "")
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "invalid-batch", p.Name())
}

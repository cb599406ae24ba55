package client_test

import (
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked url.Values
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.Query()
			_, _ = io.WriteString(w, `{"jobs":[{"id":"`+string(testJob)+`","status":"failed"}],"cursor":null}`)
		}), client.Options{})
		defer stop()
		p, err := c.List(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, asked)
		require.Empty(t, p.Cursor)
		require.Len(t, p.Jobs, 1)
		require.Equal(t, job.StatusFailed, p.Jobs[0].Status)
		require.JSONEq(t, `{"id":"`+string(testJob)+`","status":"failed"}`, string(p.Jobs[0].JSON))

		at := time.Date(2026, 11, 22, 10, 0, 0, 5e5, time.FixedZone("", 3600))
		_, err = c.List(t.Context(), &client.ListOptions{
			Statuses: []job.Status{job.StatusQueued, job.StatusFailed}, Kinds: []string{"a", "b"}, Tags: []string{"ü&"}, Batch: "b1",
			CreatedAfter: at, CreatedBefore: at, Limit: 7, Cursor: "c",
		})
		require.NoError(t, err)
		require.Equal(t, url.Values{
			"status": {"queued", "failed"}, "kind": {"a", "b"}, "tag": {"ü&"}, "batch": {"b1"}, "limit": {"7"}, "cursor": {"c"},
			"created_after": {"2026-11-22T10:00:00.0005+01:00"}, "created_before": {"2026-11-22T10:00:00.0005+01:00"},
		}, asked)
	})
}

func TestListRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(403)
			_, _ = w.Write(job.Problemf("forbidden", "no").JSON())
		}), client.Options{})
		defer stop()
		_, err := c.List(t.Context(), &client.ListOptions{})
		var p *job.Problem
		require.ErrorAs(t, err, &p)
		require.Equal(t, "forbidden", p.Name())
	})
}

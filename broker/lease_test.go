package broker

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// A worker that is gone costs its job an attempt, and at the last the job.
func TestLostLeases(t *testing.T) {
	k := job.Kind{Name: testKind, Lease: time.Minute, MaxAttempts: 2}
	q := queue.New(k)
	b, err := open(t.Context(), newMemory(), Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() {
		worked <- b.Work(ctx, 0, func(context.Context, *Task) error { return job.ErrLeaseLost })
	}()
	j, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.NoError(t, err)
	for range 2 {
		id, _, err := b.Lease(t.Context(), "w", testKind)
		require.NoError(t, err)
		require.Equal(t, j.ID, id)
	}
	require.Eventually(t, func() bool {
		j, err = b.Job(t.Context(), j.ID)
		return err == nil && j.Status.Over()
	}, 10*time.Second, time.Millisecond)
	var end struct{ Error job.Problem }
	require.NoError(t, json.Unmarshal(j.Output, &end))
	require.Equal(t, "attempts-used-up", end.Error.Name())
	require.Equal(t, "the worker of attempt 2 of 2 was not heard of any more", end.Error.Detail)
	events, err := b.History(t.Context(), j.ID, job.Cursor{}, pageSize)
	require.NoError(t, err)
	require.Contains(t, string(events[2].Data), `"attempt":2,"reason":"lease-lost"`)
	cancel()
	require.NoError(t, <-worked)
	require.NoError(t, b.Close())
}

// A kind that is not pulled any more has nobody who would go on.
func TestLeasesOfAKindThatIsPulledNoMore(t *testing.T) {
	s := newMemory()
	k := job.Kind{Name: testKind, Lease: time.Minute}
	q := queue.New(k)
	b, err := open(t.Context(), s, Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}})
	require.NoError(t, err)
	j, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.NoError(t, err)
	_, err = b.claim(t.Context(), j.ID, "w")
	require.NoError(t, err)
	again, err := open(t.Context(), s, Options{Queue: queue.New()})
	require.NoError(t, err)
	j, err = again.Job(t.Context(), j.ID)
	require.NoError(t, err)
	require.Equal(t, job.StatusQueued, j.Status)
	require.Equal(t, 2, j.Attempt)
	require.NoError(t, errors.Join(again.Close(), b.Close()))
}

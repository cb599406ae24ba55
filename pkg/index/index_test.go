package index

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// asked is a log that has every job and counts the questions.
type asked int

func (a *asked) Job(_ context.Context, id job.ID) (job.Job, error) {
	*a++
	return job.Job{ID: id}, nil
}

func TestIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		_, err := x.Job(t.Context(), "a")
		require.ErrorIs(t, err, job.ErrNotFound)
		require.Zero(t, log, "what does not exist is not asked of the store")

		x.Fold(&job.Commit{Job: &job.Job{ID: "a", Status: job.StatusQueued}})
		x.Fold(&job.Commit{Job: &job.Job{ID: "b", Status: job.StatusQueued}})
		end := time.Now().Add(time.Hour)
		x.Fold(&job.Commit{Job: &job.Job{ID: "a", Status: job.StatusFailed, ExpiresAt: end}})
		x.Fold(&job.Commit{Job: &job.Job{ID: "a", Status: job.StatusFailed, ExpiresAt: end}}) // loaded twice, at start
		_, err = x.Job(t.Context(), "a")
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		go x.Sweep(ctx)
		time.Sleep(time.Hour - time.Millisecond)
		_, err = x.Job(t.Context(), "a")
		require.NoError(t, err)
		time.Sleep(time.Millisecond)
		_, err = x.Job(t.Context(), "a")
		require.ErrorIs(t, err, job.ErrNotFound, "from the moment it expires")
		time.Sleep(sweepTime)
		synctest.Wait()
		require.Equal(t, 1, x.Len())
		require.Empty(t, x.ends)
		cancel()
	})
}

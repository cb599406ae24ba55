package index

import (
	"context"
	"strconv"
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
		require.Empty(t, x.due)
		cancel()
	})
}

// Jobs are forgotten when their own time has come, in whatever order they ended,
// and those that were expired already at the next sweep.
func TestForgetsEachInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		start := time.Now()
		ends := map[job.ID]time.Duration{"old": -time.Hour, "long": time.Hour, "short": time.Minute, "odd": time.Minute + time.Millisecond, "now": 0}
		for id, after := range ends {
			x.Fold(&job.Commit{Job: &job.Job{ID: id, Status: job.StatusSucceeded, ExpiresAt: start.Add(after)}})
		}
		for range 400 {
			x.forget(time.Now())
			for id, after := range ends {
				_, kept := x.heads[id]
				switch late := time.Since(start) - after; {
				case late < 0:
					require.True(t, kept, "%s at %s", id, time.Since(start))
				case late >= 2*sweepTime:
					require.False(t, kept, "%s at %s", id, time.Since(start))
				}
			}
			time.Sleep(sweepTime - time.Millisecond)
		}
		require.Zero(t, x.Len())
		require.Empty(t, x.due)
	})
}

// A sweep that forgets nothing costs nothing, however many jobs are kept: the index
// is locked meanwhile.
func TestForgetLooksAtNoOthers(t *testing.T) {
	var log asked
	x := New(&log)
	const kept = 100_000
	for i := range kept {
		x.Fold(&job.Commit{Job: &job.Job{ID: job.ID(strconv.Itoa(i)), Status: job.StatusSucceeded, ExpiresAt: time.Now().Add(24 * time.Hour)}})
	}
	begin := time.Now()
	for range 10_000 {
		x.forget(begin)
	}
	require.Less(t, time.Since(begin), time.Second, "at all of them it would be a billion looks")
	require.Equal(t, kept, x.Len())
}

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

// id returns an id that ends in n; they sort as their numbers do.
func id(n int) job.ID {
	var b [16]byte
	for i := 15; n > 0; n, i = n>>8, i-1 {
		b[i] = byte(n)
	}
	return job.IDOf(b)
}

// ignore is told of jobs that are forgotten.
func ignore([]job.ID) {}

// fold tells the index of a job.
func (x *Index) fold(j job.Job) { x.Fold(&job.Commit{Job: &j}) }

// require fails if anything is left of jobs in an index that has none.
func (x *Index) requireEmpty(t require.TestingT) {
	require.Zero(t, x.Len())
	require.Empty(t, x.due)
	require.Empty(t, x.order.blocks)
	require.Zero(t, x.counts)
	for _, p := range []pool{x.kinds, x.owners, x.batches, x.tags.tags, x.tags.sets} {
		require.Len(t, p.handles, 1)
		require.Len(t, p.free, len(p.texts)-1)
	}
}

func TestIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		a, b := id(1), id(2)
		_, err := x.Job(t.Context(), a)
		require.ErrorIs(t, err, job.ErrNotFound)
		_, err = x.Job(t.Context(), "no id")
		require.ErrorIs(t, err, job.ErrNotFound)
		require.Zero(t, log, "what does not exist is not asked of the store")

		x.fold(job.Job{ID: a, Status: job.StatusQueued})
		x.fold(job.Job{ID: b, Status: job.StatusQueued})
		x.fold(job.Job{ID: "no id", Status: job.StatusQueued})
		end := time.Now().Add(time.Hour)
		x.fold(job.Job{ID: a, Status: job.StatusFailed, ExpiresAt: end})
		x.fold(job.Job{ID: a, Status: job.StatusFailed, ExpiresAt: end}) // loaded twice, at start
		_, err = x.Job(t.Context(), a)
		require.NoError(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		var told []job.ID
		go x.Sweep(ctx, func(ids []job.ID) {
			require.False(t, x.has(ids[0], time.Now().UnixMilli()), "and the lock is free")
			told = append(told, ids...)
		})
		time.Sleep(time.Hour - time.Millisecond)
		_, err = x.Job(t.Context(), a)
		require.NoError(t, err)
		require.Equal(t, []job.ID{b, a}, x.ids(job.Query{}))
		time.Sleep(time.Millisecond)
		_, err = x.Job(t.Context(), a)
		require.ErrorIs(t, err, job.ErrNotFound, "from the moment it expires")
		require.Equal(t, []job.ID{b}, x.ids(job.Query{}))
		require.Empty(t, told)
		time.Sleep(sweepTime)
		synctest.Wait()
		require.Equal(t, 1, x.Len())
		require.Empty(t, x.due)
		require.Equal(t, []job.ID{a}, told)
		cancel()
	})
}

// A job that is damaged is known and not listed, until it is seen to be whole after
// all, or once it is seen not to be.
func TestDamagedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		x.fold(job.Job{ID: id(1)})
		x.fold(job.Job{ID: id(2), Kind: "a", Status: job.StatusRunning})
		_, err := x.Job(t.Context(), id(1))
		require.NoError(t, err)
		require.Equal(t, []job.ID{id(2)}, x.ids(job.Query{}))

		whole := job.Job{ID: id(1), Kind: "a", Status: job.StatusSucceeded, CreatedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour)}
		x.fold(whole)
		x.fold(job.Job{ID: id(2), Kind: "a"})
		require.Equal(t, []job.ID{id(1)}, x.ids(job.Query{Selector: job.Selector{Kinds: []string{"a"}}}))
		x.fold(job.Job{ID: id(1), Kind: "a"})
		require.Empty(t, x.ids(job.Query{}))
		require.Equal(t, 2, x.Len())

		time.Sleep(time.Hour + sweepTime)
		x.forget(time.Now(), ignore)
		require.Equal(t, 1, x.Len(), "the one whose end is known")
		x.fold(job.Job{ID: id(2), Kind: "a", Status: job.StatusFailed, ExpiresAt: time.Now()})
		time.Sleep(sweepTime)
		x.forget(time.Now(), ignore)
		x.requireEmpty(t)
	})
}

// A job that is erased is gone at once, in whatever state it was; the same id may come
// again.
func TestErasedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		end := time.Now().Add(time.Hour)
		jobs := []job.Job{
			{ID: id(0), Kind: "a", Tags: []string{"a"}, Batch: "b", Status: job.StatusRunning},
			{ID: id(1), Kind: "a", Tags: []string{"a"}, Batch: "b", Status: job.StatusFailed, ExpiresAt: end},
			{ID: id(2)},
			{ID: id(3), Kind: "a", Status: job.StatusFailed, ExpiresAt: end},
		}
		for range 2 {
			for _, j := range jobs {
				x.fold(j)
			}
			require.Equal(t, []job.ID{id(3), id(1), id(0)}, x.ids(job.Query{}))
			for _, j := range append(jobs[:3:3], job.Job{ID: id(4)}, jobs[1]) {
				j.Erased = true
				x.fold(j)
				_, err := x.Job(t.Context(), j.ID)
				require.ErrorIs(t, err, job.ErrNotFound)
			}
			require.Equal(t, []job.ID{id(3)}, x.ids(job.Query{}))
			require.Equal(t, 1, x.Len())
		}
		x.fold(job.Job{ID: id(1), Kind: "a", Status: job.StatusQueued}) // its old record has its turn, and takes nothing with it
		time.Sleep(time.Hour + sweepTime)
		x.forget(time.Now(), func(ids []job.ID) { require.Equal(t, []job.ID{id(3)}, ids, "the others are gone for long") })
		require.Equal(t, []job.ID{id(1)}, x.ids(job.Query{}))
		x.fold(job.Job{ID: id(1), Kind: "a", Erased: true})
		x.requireEmpty(t)
	})
}

// Jobs are forgotten when their own time has come, in whatever order they ended,
// and those that were expired already at the next sweep.
func TestForgetsEachInItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		start := time.Now()
		ends := []time.Duration{-time.Hour, time.Hour, time.Minute, time.Minute + time.Millisecond, 0}
		for n, after := range ends {
			x.fold(job.Job{ID: id(n), Status: job.StatusSucceeded, ExpiresAt: start.Add(after)})
		}
		for range 400 {
			x.forget(time.Now(), ignore)
			for n, after := range ends {
				key, _ := id(n).Bytes()
				_, kept := x.byID[key]
				switch late := time.Since(start) - after; {
				case late < 0:
					require.True(t, kept, "%s at %s", after, time.Since(start))
				case late >= 2*sweepTime:
					require.False(t, kept, "%s at %s", after, time.Since(start))
				}
			}
			time.Sleep(sweepTime - time.Millisecond)
		}
		x.requireEmpty(t)
	})
}

// A sweep that forgets nothing costs nothing, however many jobs are kept: the index
// is locked meanwhile.
func TestForgetLooksAtNoOthers(t *testing.T) {
	var log asked
	x := New(&log)
	const kept = 100_000
	for i := range kept {
		x.fold(job.Job{ID: id(i), Status: job.StatusSucceeded, ExpiresAt: time.Now().Add(24 * time.Hour)})
	}
	now, fastest := time.Now(), time.Hour
	for range 100 { // of which one has the machine for itself
		begin := time.Now()
		for range 100 {
			x.forget(now, ignore)
		}
		fastest = min(fastest, time.Since(begin))
	}
	require.Less(t, fastest, 10*time.Millisecond, "at all of them it would be ten million looks")
	require.Equal(t, kept, x.Len())
}

// Many that expire together are forgotten in steps, between which others have the lock.
func TestForgetsInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log asked
		x := New(&log)
		for i := range 2*stepSize + 1 {
			x.fold(job.Job{ID: id(i), Kind: "a", Tags: []string{"b"}, Status: job.StatusSucceeded, ExpiresAt: time.Now()})
		}
		time.Sleep(2 * sweepTime)
		last := turnAt(time.Now().UnixMilli())
		for _, left := range []int{stepSize + 1, 1} {
			gone, more := x.forgetSome(last)
			require.True(t, more)
			require.Len(t, gone, stepSize)
			require.Equal(t, left, x.Len())
		}
		_, more := x.forgetSome(last)
		require.False(t, more)
		x.requireEmpty(t)
		x.fold(job.Job{ID: id(1), Kind: "a", Status: job.StatusSucceeded, ExpiresAt: time.Now()})
		require.Len(t, x.records.slabs, 2, "what is free is used again")
		require.EqualValues(t, 2*stepSize+2, x.records.used)
	})
}

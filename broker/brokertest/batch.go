package brokertest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// many returns n requests.
func many(n int) (requests []*job.Request) {
	for i := range n {
		requests = append(requests, &job.Request{Kind: kind, Owner: "somebody", Input: fmt.Append(nil, i)})
	}
	return requests
}

// Jobs of a batch wait in their order, those that are none are passed over, and what one is
// refused for harms no other.
func testBatch(t *testing.T, s Store) {
	r := open(t, s, nil)
	requests := many(job.MaxBatch)
	requests[0], requests[500] = nil, nil
	requests[1].Input = make([]byte, job.DefaultMaxInput+1)
	requests[2].Deadline = time.Now()
	got, err := r.SubmitAll(t.Context(), "", "", requests)
	require.NoError(t, err)
	require.True(t, job.ValidBatchID(got.ID))
	require.False(t, got.Replayed)
	require.Len(t, got.Outcomes, job.MaxBatch)
	require.Equal(t, job.Outcome{}, got.Outcomes[0])
	require.Equal(t, job.Outcome{}, got.Outcomes[500])
	require.ErrorIs(t, got.Outcomes[1].Err, job.ErrTooLarge)
	require.Error(t, got.Outcomes[2].Err)
	ahead := 0
	for _, o := range got.Outcomes[3:] {
		require.NoError(t, o.Err)
		if o.Job.Exists() {
			require.Equal(t, got.ID, o.Job.Batch)
			position, waits := r.queue.Position(o.Job.ID)
			require.True(t, waits)
			require.Equal(t, ahead, position)
			ahead++
		}
	}
	require.Equal(t, job.MaxBatch-4, ahead)
	again, err := r.SubmitAll(t.Context(), "", "", many(1))
	require.NoError(t, err)
	require.NotEqual(t, got.ID, again.ID)
}

// A queue that gets full takes the first ones; a repeat with the same key the others, once
// there is room.
func testBatchFull(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.QueueLimit = 5 })
	submit := func() job.Batch {
		got, err := r.SubmitAll(t.Context(), "key", "f", many(8))
		require.NoError(t, err)
		return got
	}
	first := submit()
	for i, o := range first.Outcomes {
		if i < 5 {
			require.NoError(t, o.Err)
		} else {
			require.ErrorIs(t, o.Err, job.ErrQueueFull)
		}
	}
	_, err := r.Cancel(t.Context(), first.Outcomes[0].Job.ID, "", "")
	require.NoError(t, err)
	second := submit()
	require.Equal(t, first.ID, second.ID)
	require.True(t, second.Replayed)
	require.NoError(t, second.Outcomes[5].Err)
	require.ErrorIs(t, second.Outcomes[6].Err, job.ErrQueueFull)
	require.Equal(t, job.StatusCanceled, second.Outcomes[0].Job.Status)

	other, err := r.SubmitAll(t.Context(), "other", "f", many(1))
	require.NoError(t, err)
	require.ErrorIs(t, other.Outcomes[0].Err, job.ErrQueueFull)
	_, err = r.Cancel(t.Context(), first.Outcomes[1].Job.ID, "", "")
	require.NoError(t, err)
	_, replayed, err := r.SubmitOnce(t.Context(), "other", "another", many(1)[0])
	require.NoError(t, err, "a key for which there was no room is free")
	require.False(t, replayed)
}

// One key is one batch, whoever uses it, and no job besides.
func testBatchOnce(t *testing.T, s Store) {
	r := open(t, s, nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	batches, jobs := map[string]bool{}, map[job.ID]bool{}
	for range 5 {
		wg.Go(func() {
			got, err := r.SubmitAll(t.Context(), "key", "f", many(100))
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			batches[got.ID] = true
			for _, o := range got.Outcomes {
				require.NoError(t, o.Err)
				jobs[o.Job.ID] = true
			}
		})
	}
	wg.Wait()
	require.Len(t, batches, 1)
	require.Len(t, jobs, 100)
	queued, _ := r.queue.Depth(kind)
	require.Equal(t, 100, queued)

	_, err := r.SubmitAll(t.Context(), "key", "another", many(100))
	requireReused(t, err)
	_, _, err = r.SubmitOnce(t.Context(), "key", "f", many(1)[0])
	requireReused(t, err)
	_, _, err = r.SubmitOnce(t.Context(), "single", "f", many(1)[0])
	require.NoError(t, err)
	_, err = r.SubmitAll(t.Context(), "single", "f", many(1))
	requireReused(t, err)
}

func requireReused(t *testing.T, err error) {
	t.Helper()
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "idempotency-mismatch", p.Name())
}

// Jobs of a batch that are over and gone are not made again.
func testBatchExpired(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.Retention = time.Second; k.Concurrency = 16 })
	submit := func() job.Batch {
		got, err := r.SubmitAll(t.Context(), "key", "f", many(20))
		require.NoError(t, err)
		return got
	}
	first := submit()
	next, stop := r.attempts()
	for range 20 {
		_, m := next()
		m.Ack()
	}
	stop()
	require.Eventually(t, func() bool {
		again, gone := submit(), 0
		require.Equal(t, first.ID, again.ID)
		for i, o := range again.Outcomes {
			if o.Err != nil {
				require.ErrorIs(t, o.Err, job.ErrNotFound)
				gone++
			} else {
				require.Equal(t, first.Outcomes[i].Job.ID, o.Job.ID)
			}
		}
		return gone == 20
	}, patience, 20*time.Millisecond)
	queued, running := r.queue.Depth(kind)
	require.Zero(t, queued+running)
}

// Jobs of a batch that were erased are not made again.
func testBatchErased(t *testing.T, s Store) {
	r := open(t, s, nil)
	first, err := r.SubmitAll(t.Context(), "key", "f", many(3))
	require.NoError(t, err)
	over := first.Outcomes[1].Job.ID
	_, err = r.Cancel(t.Context(), over, "", "")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.Archived(over) }, patience, time.Millisecond)
	for _, o := range first.Outcomes[:2] {
		require.NoError(t, r.Erase(t.Context(), o.Job.ID, ""))
	}
	again, err := r.SubmitAll(t.Context(), "key", "f", many(3))
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	require.ErrorIs(t, again.Outcomes[0].Err, job.ErrNotFound)
	require.ErrorIs(t, again.Outcomes[1].Err, job.ErrNotFound)
	require.Equal(t, first.Outcomes[2].Job.ID, again.Outcomes[2].Job.ID)
	queued, _ := r.queue.Depth(kind)
	require.Equal(t, 1, queued)
}

// What was stored of a batch is found after a restart.
func testBatchRestart(t *testing.T, s Store) {
	r := open(t, s, nil)
	first, err := r.SubmitAll(t.Context(), "key", "f", many(10))
	require.NoError(t, err)
	r.close()
	r = open(t, s, nil)
	again, err := r.SubmitAll(t.Context(), "key", "f", many(10))
	require.NoError(t, err)
	require.True(t, again.Replayed)
	require.Equal(t, first.ID, again.ID)
	for n, o := range again.Outcomes {
		require.NoError(t, o.Err)
		require.Equal(t, first.Outcomes[n].Job.ID, o.Job.ID)
		position, _ := r.queue.Position(o.Job.ID)
		require.Equal(t, n, position)
	}
}

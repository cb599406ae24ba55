package broker

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// What a job was asked for lies in the store while it waits: ten thousand that wait
// with an input of a megabyte each are no ten gigabytes.
func TestWaitingJobHoldsNoInput(t *testing.T) {
	b := node(t, newShared(t))
	input := make([]byte, 64<<10)
	held := weak.Make(&input[0])
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind, Input: input})
	require.NoError(t, err)
	require.Eventually(t, func() bool { runtime.GC(); return held.Value() == nil }, timeToWait, tick)
}

func TestSubmitToAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer func()
		b := node(t, &hook{newShared(t), func(next func(func(uint64, error)), done func(uint64, error)) {
			answer = func() { next(done) }
		}})
		begin := time.Now()
		_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, storeTime, time.Since(begin))
		answer()
	})
}

// The same id again, of a job that is over and has left for the archive, while its messages are
// in the log yet: it is that job, and nobody is told of it a second time.
func TestSubmitOfOneThatHasLeft(t *testing.T) {
	var mu sync.Mutex
	told := map[job.ID]int{}
	k := job.Kind{Name: testKind, Concurrency: 100, Backoff: job.Backoff{First: 1, Max: 1}}
	q := queue.New(k)
	b, err := open(t.Context(), newShared(t), Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold, func(c *job.Commit) {
		mu.Lock()
		defer mu.Unlock()
		told[c.Job.ID] += len(c.Events)
	}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	submit := func(id job.ID) job.Job {
		j, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind})
		require.NoError(t, err)
		return j
	}
	submit(job.NewID()) // which waits, and holds back the purge
	id := job.NewID()
	submit(id)
	require.NoError(t, claimFrom(t, b, id).succeed(t.Context()))
	require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	require.Equal(t, job.StatusSucceeded, submit(id).Status)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 3, told[id])
}

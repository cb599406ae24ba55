package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func submitMany(t *testing.T, b *Broker, key string, n int) (job.Batch, error) {
	var requests []*job.Request
	for i := range n {
		requests = append(requests, &job.Request{Kind: testKind, Input: fmt.Append(nil, i)})
	}
	return b.SubmitAll(t.Context(), key, "fingerprint", requests)
}

// TestBatchAtEveryStep ends the process before and after each step of a batch with a key,
// and of its jobs' way through the log. Whoever comes with the key afterwards, it is one
// batch of as many jobs, and none that was is made again.
func TestBatchAtEveryStep(t *testing.T) { atEveryStep(t, batchAt) }

func batchAt(t *testing.T, n int, after bool) (finished bool) {
	const size = 4
	s := newShared(t)
	c := &crash{store: s, left: n, after: after}
	b := node(t, c)
	batches, ids := map[string]bool{}, map[job.ID]bool{}
	told := func(got job.Batch) {
		for _, o := range got.Outcomes {
			if o.Err == nil {
				batches[got.ID], ids[o.Job.ID] = true, true
			}
		}
	}
	if got, err := submitMany(t, b, "key", size); err == nil {
		told(got)
	}
	for id := range ids {
		if task, err := b.claim(t.Context(), id, ""); err == nil {
			_ = task.succeed(t.Context())
			task.end()
		}
	}
	b.archiveOver()
	b.purgeBelow(b.mark())
	finished = c.end(b)

	next := node(t, s)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			got, err := submitMany(t, next, "key", size)
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			for _, o := range got.Outcomes {
				require.NoError(t, o.Err)
			}
			told(got)
		})
	}
	wg.Wait()
	require.Len(t, batches, 1)
	require.Len(t, ids, size)
	for id := range ids {
		if j, err := next.Job(t.Context(), id); err == nil && !j.Status.Over() {
			require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
		}
	}
	for id := range ids {
		require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
		require.NoError(t, s.put(t.Context(), string(id), nil, time.Nanosecond)) // its time is over
	}
	next.purgeBelow(next.mark())
	got, err := submitMany(t, next, "key", size)
	require.NoError(t, err)
	require.True(t, got.Replayed)
	for _, o := range got.Outcomes {
		require.ErrorIs(t, o.Err, job.ErrNotFound)
	}
	return finished
}

// A batch whose jobs the store refuses for good leaves its key free, and the queue as it
// was; one of which nobody knows keeps it.
func TestRefusedBatchLeavesItsKey(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	h := &hook{store: shared{m}}
	b := node(t, h)
	h.onPublish = func(_ func(func(uint64, error)), done func(uint64, error)) { go done(0, errFull()) }
	got, err := submitMany(t, b, "key", 3)
	require.NoError(t, err)
	for _, o := range got.Outcomes {
		require.ErrorIs(t, o.Err, errFull())
	}
	require.Empty(t, m.keyed)

	var n atomic.Int64
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) {
		if n.Add(1) == 2 {
			go done(0, unavailable(errors.New("away")))
			return
		}
		next(done)
	}
	first, err := submitMany(t, b, "key", 3)
	require.NoError(t, err)
	require.False(t, first.Replayed)
	require.ErrorIs(t, first.Outcomes[1].Err, errSilent, "nobody knows")
	second, err := submitMany(t, b, "key", 3)
	require.NoError(t, err)
	require.Equal(t, first.ID, second.ID)
	for i, o := range second.Outcomes {
		require.NoError(t, o.Err)
		require.Equal(t, job.IDIn(first.ID, i), o.Job.ID)
	}
}

// turnstile is a queue that counts who was let in, and is full once: for the n-th.
type turnstile struct {
	Queue
	full int
	in   int
}

func (q *turnstile) Admit(kind string) error {
	if q.full--; q.full == 0 {
		return job.ErrQueueFull
	}
	q.in++
	return q.Queue.Admit(kind)
}

func (q *turnstile) Dismiss(kind string) {
	q.in--
	q.Queue.Dismiss(kind)
}

// Behind a job for which there is no room none of its kind is let in, though there would be
// room again: it would run before the other.
func TestBatchKeepsItsOrder(t *testing.T) {
	b := node(t, newShared(t))
	b.queue = &turnstile{Queue: b.queue, full: 2}
	var requests []*job.Request
	for _, kind := range []string{testKind, testKind, "other", testKind} {
		requests = append(requests, &job.Request{Kind: kind})
	}
	got, err := b.SubmitAll(t.Context(), "", "", requests)
	require.NoError(t, err)
	for i, o := range got.Outcomes {
		require.Equal(t, i == 1 || i == 3, errors.Is(o.Err, job.ErrQueueFull), i)
	}
}

// The key of a batch that cannot be stored costs the queue nothing.
func TestBatchWithoutItsKey(t *testing.T) {
	s := newShared(t)
	b := node(t, &crash{store: s, left: 1}) // the epoch is a setting: the key is the first step
	q := &turnstile{Queue: b.queue}
	b.queue = q
	_, err := submitMany(t, b, "key", 3)
	require.ErrorIs(t, err, errSilent)
	require.Zero(t, q.in)
}

// All of a batch are on their way before the first is waited for, and share a sync.
func TestBatchIsSyncedTogether(t *testing.T) {
	const jobs = 300
	var syncs atomic.Int64
	var hold sync.Mutex
	b := openSynced(t, t.TempDir(), func() error { syncs.Add(1); hold.Lock(); defer hold.Unlock(); return nil })
	hold.Lock()
	before := syncs.Load()
	var wg sync.WaitGroup
	wg.Go(func() {
		got, err := submitMany(t, b, "", jobs)
		require.NoError(t, err)
		for _, o := range got.Outcomes {
			require.NoError(t, o.Err)
		}
	})
	require.Eventually(t, func() bool {
		_, last, err := b.store.scan(t.Context(), func(stored) {})
		acks := b.store.(*jetStream).acks
		acks.mu.Lock()
		defer acks.mu.Unlock()
		return err == nil && last == jobs && len(acks.waiting) == 0 // all wait for the sync
	}, timeToWait, tick)
	hold.Unlock()
	wg.Wait()
	require.Less(t, syncs.Load()-before, int64(10))
}

// The key of a batch is noted once for all of its jobs that are there, and made anew if it
// was lost: which were there is not known then, so that none is made again.
func TestKeyOfABatch(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	got, err := submitMany(t, b, "key", 3)
	require.NoError(t, err)
	ids := got.Outcomes
	require.NoError(t, b.leaveKey(&ids[1].Job))
	name := ids[0].Job.Once.Record
	rec, err := b.keyRecord(t.Context(), name)
	require.NoError(t, err)
	for n := range 5 {
		require.Equal(t, n < 3, rec.was(job.IDIn(got.ID, n)), n)
	}
	require.False(t, rec.Stored)

	require.NoError(t, m.dropKey(t.Context(), name))
	erased := nothingOf(&ids[0].Job)
	require.NoError(t, b.restoreKeys(t.Context(), []*job.Job{&erased, &ids[2].Job, &ids[1].Job}))
	again, err := submitMany(t, b, "key", 4)
	require.NoError(t, err)
	require.Equal(t, got.ID, again.ID)
	require.NoError(t, again.Outcomes[2].Err)
	require.ErrorIs(t, again.Outcomes[3].Err, job.ErrNotFound)
}

// A batch takes no more room than there is for all of it together.
func TestBatchThatIsLargerThanTheRoom(t *testing.T) {
	b := node(t, narrow{newShared(t), 1 << 20}) // of which nine tenths are for submits, and each job takes twice
	require.Eventually(t, func() bool { return b.room.limit.Load() > 0 }, timeToWait, tick)
	const each = 100_000
	requests := make([]*job.Request, 10)
	for i := range requests {
		requests[i] = &job.Request{Kind: testKind, Input: make([]byte, each)}
	}
	got, err := b.SubmitAll(t.Context(), "", "", requests)
	require.NoError(t, err)
	stored := 0
	for _, o := range got.Outcomes {
		if o.Err == nil {
			stored++
		} else {
			require.ErrorIs(t, o.Err, errFull())
		}
	}
	require.Equal(t, 4, stored)
}

// narrow is a store that may keep so many bytes.
type narrow struct {
	store
	limit int64
}

func (n narrow) usage(context.Context) (used, limit int64, err error) { return 0, n.limit, nil }

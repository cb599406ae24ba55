package broker

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// TestOnceAtEveryStep ends the process before and after each step of a submit with a key,
// and of its job's way through the log. Whoever comes with the key afterwards, the job
// is one, and once it was, it is never made again.
func TestOnceAtEveryStep(t *testing.T) { atEveryStep(t, onceAt) }

func onceAt(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: n, after: after}
	b := node(t, c)
	ids := map[job.ID]bool{}
	if j, _, err := once1(t, b); err == nil {
		ids[j.ID] = true
		if task, err := b.claim(t.Context(), j.ID, ""); err == nil {
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
			j, _, err := once1(t, next)
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			ids[j.ID] = true
		})
	}
	wg.Wait()
	require.Len(t, ids, 1)
	for id := range ids {
		if j, err := next.Job(t.Context(), id); err == nil && !j.Status.Over() {
			require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
		}
		require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
		require.NoError(t, s.put(t.Context(), string(id), nil, time.Nanosecond)) // its time is over
	}
	next.purgeBelow(next.mark())
	_, replayed, err := once1(t, next)
	require.True(t, replayed)
	require.ErrorIs(t, err, job.ErrNotFound)
	return finished
}

func once1(t *testing.T, b *Broker) (job.Job, bool, error) {
	return b.SubmitOnce(t.Context(), "key", "fingerprint", &job.Request{Kind: testKind, Input: []byte("in")})
}

// A submit that was refused for good leaves its key free.
func TestRefusedSubmitLeavesItsKey(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	h := &hook{store: shared{m}}
	b := node(t, h)
	h.onPublish = func(_ func(func(uint64, error)), done func(uint64, error)) { go done(0, errFull()) }
	_, _, err := once1(t, b)
	require.ErrorIs(t, err, errFull())
	h.onPublish = nil
	_, replayed, err := once1(t, b)
	require.NoError(t, err)
	require.False(t, replayed)

	h.onPublish = func(_ func(func(uint64, error)), done func(uint64, error)) {
		go done(0, unavailable(errors.New("away")))
	}
	_, _, err = b.SubmitOnce(t.Context(), "another", "f", &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errSilent, "nobody knows")
	require.Len(t, m.keyed, 2, "so the key stays")
}

// fullKeys is a store that has no room for another key.
type fullKeys struct{ store }

func (fullKeys) setKey(context.Context, string, []byte, time.Duration, bool) (uint64, error) {
	return 0, errFull()
}

// Whether a submit has a key or not: a full store says that it is full.
func TestFullStoreSaysSoOfKeys(t *testing.T) {
	_, _, err := once1(t, node(t, fullKeys{newShared(t)}))
	requireProblem(t, errFull(), err)
}

// requireProblem requires that err is what a client is told as the problem.
func requireProblem(t *testing.T, problem *job.Problem, err error) {
	t.Helper()
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, problem.Name(), p.Name())
}

// staleKey answers the first question for a key as it was before its job had left.
type staleKey struct {
	store
	asked atomic.Int32
}

func (s *staleKey) key(ctx context.Context, name string) ([]byte, error) {
	data, err := s.store.key(ctx, name)
	if err != nil || s.asked.Add(1) > 1 {
		return data, err
	}
	var rec keyRecord
	data, err = unseal(name, data)
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	rec.Stored = false
	return seal(name, job.MustJSON(rec)), err
}

// A job that goes between the look at its key and the look at itself is not made again.
func TestOnceOfAJobThatGoesMeanwhile(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	j, _, err := b.SubmitOnce(t.Context(), "key", "f", &job.Request{Kind: testKind})
	require.NoError(t, err)
	require.NoError(t, b.Erase(t.Context(), j.ID, "me"))
	require.Eventually(t, func() bool { return entryOf(b, j.ID) == nil }, timeToWait, tick)
	b.purgeBelow(b.mark())
	halt(b)
	b = node(t, &staleKey{store: shared{m}})
	_, replayed, err := b.SubmitOnce(t.Context(), "key", "f", &job.Request{Kind: testKind})
	require.ErrorIs(t, err, job.ErrNotFound)
	require.True(t, replayed)
}

// betweenLooks is a store where something happens behind the second look at a key.
type betweenLooks struct {
	store
	asked  atomic.Int32
	happen func()
}

func (s *betweenLooks) key(ctx context.Context, name string) ([]byte, error) {
	data, err := s.store.key(ctx, name)
	if s.asked.Add(1) == 2 {
		s.happen()
	}
	return data, err
}

// A job that was erased while it ran, and leaves the log while its key comes again, is not made
// again; nor is one of a batch.
func TestOnceOfAnErasedJobThatLeaves(t *testing.T) {
	for _, batch := range []bool{false, true} {
		s := &betweenLooks{store: newShared(t)}
		b := node(t, s)
		submit := func() (job.ID, error) {
			if !batch {
				j, _, err := once1(t, b)
				return j.ID, err
			}
			got, err := b.SubmitAll(t.Context(), "key", "f", []*job.Request{{Kind: testKind}})
			require.NoError(t, err)
			return got.Outcomes[0].Job.ID, got.Outcomes[0].Err
		}
		id, err := submit()
		require.NoError(t, err)
		task := claimFrom(t, b, id)
		require.NoError(t, b.Erase(t.Context(), id, "me"))
		s.asked.Store(0)
		s.happen = func() {
			require.NoError(t, task.fail(t.Context(), context.Canceled))
			require.Eventually(t, func() bool { return entryOf(b, id) == nil }, timeToWait, tick)
			b.purgeBelow(b.mark())
		}
		_, err = submit()
		require.ErrorIs(t, err, job.ErrNotFound)
	}
}

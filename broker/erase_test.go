package broker

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// TestCrashInErase ends the process before and after each step of an erasure: of a job
// whose messages the log still has, large enough to have parts.
func TestCrashInErase(t *testing.T) { atEveryStep(t, crashInErase) }

func crashInErase(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: 1 << 30, after: after}
	b := node(t, c)
	holder, id := submitTo(t, b), submitTo(t, b) // the first one holds the log
	task := claimFrom(t, b, id)
	for range 3 {
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", partSize))))
	}
	require.NoError(t, task.succeed(t.Context()))
	task.end()
	require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	c.mu.Lock()
	c.left = n
	c.mu.Unlock()
	err := b.Erase(t.Context(), id, "me")
	finished = c.end(b)
	for range 2 {
		next := node(t, s)
		if _, found := next.Job(t.Context(), id); err == nil {
			require.ErrorIs(t, found, job.ErrNotFound, "who was told that it is gone finds it gone")
			names, err := next.store.names(t.Context(), "*.*")
			require.NoError(t, err)
			for _, name := range names {
				body, err := next.store.archived(t.Context(), name)
				require.NoError(t, err)
				require.Empty(t, body, "its parts expire")
			}
		}
		_, err := next.Job(t.Context(), holder)
		require.NoError(t, err)
		halt(next)
	}
	return finished
}

// What is erased is no loss: neither the next start nor verify misses it, and nothing of it
// can be read any more but that there was a job.
func TestEraseIsNoLoss(t *testing.T) {
	dir := t.TempDir()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	b, _ := reopen(t, s, time.Hour*5)
	var ids []job.ID
	for range 5 {
		task := claimFrom(t, b, submitTo(t, b))
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", 3*partSize))))
		require.NoError(t, task.succeed(t.Context()))
		task.end()
		require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
		ids = append(ids, task.Job.ID)
	}
	require.NoError(t, b.saveMarks(t.Context(), 0))
	for _, id := range ids[1:4] {
		require.NoError(t, b.Erase(t.Context(), id, "me"))
	}
	data, err := b.store.archived(t.Context(), string(ids[1]))
	require.NoError(t, err)
	require.Less(t, len(data), 500)
	halt(b)
	b.closeOnce.Do(s.close) // without new marks
	for range 2 {
		s, err = openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		b, logs := reopen(t, s, 5*time.Hour)
		require.Zero(t, logs.FilterLevelExact(zap.ErrorLevel).Len(), "%v", logs.All())
		for i, id := range ids {
			_, err := b.Job(t.Context(), id)
			require.Equal(t, i >= 1 && i < 4, err != nil, "%d: %v", i, err)
		}
		require.NoError(t, b.Close())
		_, found := verified(t, dir)
		require.Empty(t, found)
	}
}

// One that expires at the moment it is erased leaves nothing that stays for ever.
func TestEraseOfWhatExpires(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	id := job.NewID()
	a := archive{Job: job.Job{ID: id, Kind: testKind, Status: job.StatusSucceeded, ExpiresAt: time.Now().Add(-time.Millisecond)}, pack: pack(nil)}
	require.NoError(t, m.put(t.Context(), string(id), a.encode(), time.Hour))
	require.ErrorIs(t, b.Erase(t.Context(), id, "me"), job.ErrNotFound)
	require.False(t, m.archive[string(id)].end.IsZero())
}

// The end of a job is synced before anybody is told of it.
func TestEraseIsSynced(t *testing.T) {
	s := &syncing{store: newShared(t)}
	b := node(t, s)
	task := claimFrom(t, b, submitTo(t, b))
	require.NoError(t, task.succeed(t.Context()))
	task.end()
	require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
	s.fail.Store(true)
	require.ErrorIs(t, b.Erase(t.Context(), task.Job.ID, "me"), errSilent)
	s.fail.Store(false)
}

// syncing is a store whose sync fails when it is to.
type syncing struct {
	store
	fail atomic.Bool
}

func (s *syncing) sync(ctx context.Context) error {
	if s.fail.Load() {
		return errSilent
	}
	return s.store.sync(ctx)
}

package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// An input goes when its job expires, and when a job that waits or runs is erased.
func TestUploadGoes(t *testing.T) {
	both(t, func(t *testing.T, s store) {
		k := largeKind
		k.Retention = anHour
		b, _ := reopen(t, s, 0, k)
		submit := func() job.ID {
			id := job.NewID()
			_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: uploadTo(t, b, bytesOf(job.PieceSize+1))})
			require.NoError(t, err)
			return id
		}
		require.NoError(t, b.Erase(t.Context(), submit(), "me"))
		require.Eventually(t, func() bool { return len(uploadsIn(t, b)) == 0 }, timeToWait, tick)

		running := submit()
		task := claimFrom(t, b, running)
		require.NoError(t, b.Erase(t.Context(), running, "me"))
		require.Len(t, uploadsIn(t, b), 2, "the attempt may read it yet")
		require.NoError(t, task.fail(t.Context(), job.ErrCanceled))
		task.end()
		require.Eventually(t, func() bool { return len(uploadsIn(t, b)) == 0 }, timeToWait, tick)

		over := submit()
		require.NoError(t, claimFrom(t, b, over).succeed(t.Context()))
		require.Eventually(t, func() bool { return b.Archived(over) }, timeToWait, tick)
		require.Len(t, uploadsIn(t, b), 2)
		hurry(b)
		require.Eventually(t, func() bool { return len(uploadsIn(t, b)) == 0 }, timeToWait, tick)
	})
}

// anHour is how long these jobs are kept.
const anHour = time.Hour

// hurry takes from what is to be removed the while that it has from the end of its job.
func hurry(b *Broker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.litter {
		b.litter[i].at = b.litter[i].at.Add(-anHour - partsOutlive)
	}
}

// However many inputs expire at once, they are removed as fast as they can be stored: all at one
// tick of the archiver, or as many as it has the time for.
func TestManyUploadsGo(t *testing.T) {
	const many = 300
	for what, c := range map[string]struct {
		each  time.Duration // a removal takes
		ticks int
	}{"at once": {0, 1}, "slow": {2 * time.Millisecond, 3}} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // so that it is the store's time alone which passes
				b, _ := reopen(t, dawdling{newMemory(), c.each}, 0, largeKind)
				for range many {
					b.Discard(uploadTo(t, b, bytesOf(9)))
				}
				require.Len(t, uploadsIn(t, b), many)
				time.Sleep(time.Duration(c.ticks)*purgeTime + purgeTime/2)
				require.Empty(t, uploadsIn(t, b))
			})
		})
	}
	t.Run("embedded", func(t *testing.T) {
		s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		b, _ := reopen(t, s, 0, largeKind)
		for range many {
			b.Discard(uploadTo(t, b, bytesOf(9)))
		}
		require.Eventually(t, func() bool { return len(uploadsIn(t, b)) == 0 }, timeToWait, 20*tick)
	})
}

// dawdling is a store that takes its time to remove anything.
type dawdling struct {
	store
	each time.Duration
}

func (s dawdling) remove(ctx context.Context, prefix string) error {
	time.Sleep(s.each)
	return s.store.remove(ctx, prefix)
}

// A result goes too when its job expires.
func TestResultGoes(t *testing.T) {
	both(t, func(t *testing.T, s store) {
		k := largeKind
		k.Retention = anHour
		b, _ := reopen(t, s, 0, k)
		task := claimFrom(t, b, submitTo(t, b))
		result := bytesOf(job.PieceSize + 1)
		require.NoError(t, task.Attach(t.Context(), result[:job.PieceSize]))
		task.Succeed(attached(task, result))
		require.NoError(t, task.succeed(t.Context()))
		task.end()
		require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
		pieces := func() []string {
			names, err := b.store.names(context.Background(), "*.*.*")
			require.NoError(t, err)
			return names
		}
		require.Len(t, pieces(), 1)
		hurry(b)
		require.Eventually(t, func() bool { return len(pieces()) == 0 }, timeToWait, tick)
	})
}

// The next start knows when the input and the result of a finished job go, whichever way it
// reads its head.
func TestLitterAfterAStart(t *testing.T) {
	dir := t.TempDir()
	opened := func() *Broker {
		s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		b, _ := reopen(t, s, 0, largeKind)
		return b
	}
	b := opened()
	id, result := job.NewID(), bytesOf(job.PieceSize+1)
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: uploadTo(t, b, result), Tags: []string{"käse"}})
	require.NoError(t, err)
	task := claimFrom(t, b, id)
	require.NoError(t, task.Attach(t.Context(), result[:job.PieceSize]))
	task.Succeed(attached(task, result))
	require.NoError(t, task.succeed(t.Context()))
	task.end()
	require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	want := b.litter
	require.Len(t, want, 2)
	require.NoError(t, b.Close())
	b = opened()
	require.Len(t, b.litter, 2)
	for i, p := range b.litter {
		require.Equal(t, want[i].name, p.name)
		require.True(t, want[i].at.Equal(p.at))
	}
	requireUploads(t, b, 2)
}

// What a process that died had stored of a result is removed by the next one: the attempt is
// no more.
func TestResultOfALostAttemptGoes(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	task := claimFrom(t, b, submitTo(t, b))
	require.NoError(t, task.Attach(t.Context(), bytesOf(job.PieceSize)))
	halt(b)
	b = node(t, shared{m})
	require.Eventually(t, func() bool {
		names, err := b.store.names(context.Background(), "*.*.*")
		return err == nil && len(names) == 0
	}, timeToWait, tick)
	_, err := b.Job(t.Context(), task.Job.ID)
	require.NoError(t, err)
}

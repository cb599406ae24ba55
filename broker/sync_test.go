package broker

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// openSynced opens a Broker on dir that is as durable as sync makes it.
func openSynced(t *testing.T, dir string, sync func() error, folds ...func(*job.Commit)) *Broker {
	t.Helper()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	s.syncer = newSyncer(sync, func(err error) { _ = s.spoil(err) })
	k := job.Kind{Name: testKind, Concurrency: 100}
	q := queue.New(k)
	b, err := open(t.Context(), s, Options{Kinds: []job.Kind{k}, Queue: q, Folds: append(folds, q.Fold)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// Nobody is told that a job is stored, and nobody sees it, before a sync that began
// after it was written has ended. Those who wait share it.
func TestNothingIsToldBeforeTheSync(t *testing.T) {
	var syncs, told, seen atomic.Int64
	var hold sync.Mutex
	gate := func() error { syncs.Add(1); hold.Lock(); defer hold.Unlock(); return nil }
	b := openSynced(t, t.TempDir(), gate, func(*job.Commit) { seen.Add(1) })
	hold.Lock()
	before := syncs.Load()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
			require.NoError(t, err)
			told.Add(1)
		})
	}
	written := func() bool {
		_, last, err := b.store.scan(t.Context(), func(stored) {})
		return err == nil && last == 20
	}
	require.Eventually(t, written, timeToWait, tick)
	require.Zero(t, told.Load())
	require.Zero(t, seen.Load())
	hold.Unlock()
	wg.Wait()
	require.EqualValues(t, 20, seen.Load())
	require.LessOrEqual(t, syncs.Load()-before, int64(20), "one is shared by all who wait")
}

// After a sync that failed nothing is told as stored any more, and the work ends.
func TestFailedSyncEndsTheProcess(t *testing.T) {
	var broken atomic.Bool
	b := openSynced(t, t.TempDir(), func() error {
		if broken.Load() {
			return syscall.EIO
		}
		return nil
	})
	ended := make(chan error, 1)
	go func() {
		ended <- b.Work(t.Context(), time.Second, func(context.Context, *Task) error { return nil })
	}()
	broken.Store(true)
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, <-ended, errNotSynced)
	broken.Store(false)
	require.ErrorIs(t, b.Ready(t.Context()), errNotSynced, "it stays so")
}

// setHook is a store that tells what is set.
type setHook struct {
	store
	onSet func(key string, value []byte)
}

func (h setHook) set(ctx context.Context, key string, value []byte, create bool) error {
	h.onSet(key, value)
	return h.store.set(ctx, key, value, create)
}

// The marks are of what is on the disk: of an archive that power took the end of, else, it
// would be said that it is lost, while its jobs are still in the log.
func TestMarksAreOfWhatIsSynced(t *testing.T) {
	s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	var durable, noted atomic.Uint64 // places of the archive
	s.syncer = newSyncer(func() error {
		info, err := s.done.Info(context.Background())
		durable.Store(info.State.LastSeq)
		return err
	}, func(error) {})
	b, _ := reopen(t, setHook{s, func(key string, value []byte) {
		var m marks
		if key == marksSetting && assert.NoError(t, json.Unmarshal(value, &m)) {
			assert.LessOrEqual(t, m.Ended, durable.Load())
			noted.Store(m.Ended)
		}
	}}, time.Hour)
	require.NoError(t, claimFrom(t, b, submitTo(t, b)).succeed(t.Context()))
	require.Eventually(t, func() bool { return noted.Load() == 1 }, timeToWait, tick)
}

// What was told at any moment is in what the last sync left on the disk: here a copy
// that each sync makes. A cut of the power takes all else.
func TestPowerCutTakesNothingThatWasTold(t *testing.T) {
	const jobs = 100
	dir, disk := t.TempDir(), t.TempDir()
	var durable atomic.Int64 // number of the last copy that is whole
	b := openSynced(t, dir, func() error {
		n := durable.Load() + 1
		_ = exec.Command("cp", "-r", dir, filepath.Join(disk, strconv.FormatInt(n, 10))).Run() // what goes meanwhile is not ours
		durable.Store(n)
		return nil
	})
	var mu sync.Mutex
	told := map[job.ID]int64{} // and what was on the disk then
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range jobs / 4 {
				id := job.NewID()
				_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: noise(2000)})
				require.NoError(t, err)
				mu.Lock()
				told[id] = durable.Load()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for n := range durable.Load() {
		after := jobsIn(t, filepath.Join(disk, strconv.FormatInt(n+1, 10)))
		for id, then := range told {
			if then <= n+1 && !after[id] {
				t.Errorf("job %s was told at %d, and is not in what was on the disk at %d", id, then, n+1)
			}
		}
	}
}

// jobsIn returns the jobs in a store.
func jobsIn(t *testing.T, dir string) map[job.ID]bool {
	t.Helper()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	defer s.close()
	ids := map[job.ID]bool{}
	_, _, err = s.scan(t.Context(), func(m stored) {
		_, id, _ := parseSubject(m.subject)
		ids[id] = true
	})
	require.NoError(t, err)
	return ids
}

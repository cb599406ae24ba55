package broker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// halt ends b's goroutines, as a kill would.
func halt(b *Broker) {
	b.mu.Lock()
	b.stop()
	b.mu.Unlock()
	b.done.Wait()
}

// reopen opens a Broker on s that keeps jobs for so long, and returns what it logs.
func reopen(t *testing.T, s store, retention time.Duration, kinds ...job.Kind) (*Broker, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	if kinds == nil {
		kinds = []job.Kind{{Name: testKind, Concurrency: 100, Retention: retention}}
	}
	q := queue.New(kinds...)
	b, err := open(t.Context(), s, Options{Kinds: kinds, Queue: q, Folds: []func(*job.Commit){q.Fold}, Log: zap.New(core)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b, logs
}

// Jobs that wait are moved out of the way of garbage, and not out of each other's.
func TestIdleJobsStayWhereTheyAre(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	for range 200 {
		_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind, Input: noise(1000)})
		require.NoError(t, err)
	}
	var published atomic.Int64
	b.mu.Lock()
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) { published.Add(1); next(done) }
	b.moveBehind = 1 << 10
	b.mu.Unlock()
	for range 3 {
		b.moveOld()
	}
	require.Zero(t, published.Load())
}

// The rest of a job whose first messages were purged, and whose archive has expired
// since, is no damage.
func TestRemnantOfAnExpiredJob(t *testing.T) {
	s := newShared(t)
	const retention = 20 * time.Millisecond
	b, _ := reopen(t, s, retention)
	id, live := submitTo(t, b), submitTo(t, b) // the second holds the log in the middle of the first
	require.NoError(t, claimFrom(t, b, id).succeed(t.Context()))
	require.Eventually(t, func() bool { return entryOf(b, id) == nil && b.Purged() == 1 }, timeToWait, tick)
	halt(b)
	require.Eventually(t, func() bool { _, err := s.archived(t.Context(), string(id)); return err != nil }, timeToWait, tick)

	b, logs := reopen(t, s, retention)
	require.Zero(t, logs.FilterLevelExact(zap.ErrorLevel).Len(), "%v", logs.All())
	_, err := b.Job(t.Context(), id)
	require.ErrorIs(t, err, job.ErrNotFound)
	require.NoError(t, claimFrom(t, b, live).succeed(t.Context()))
	require.Eventually(t, func() bool { return b.Purged() == b.head }, timeToWait, tick, "nothing holds the log")
}

// A log that was cut, at its front or at its end, is told from one that never had
// more.
func TestCutLogIsReported(t *testing.T) {
	for name, cut := range map[string]func([]stored) []stored{
		"beginning": func(log []stored) []stored { return log[2:] },
		"end":       func(log []stored) []stored { return log[:len(log)-2] },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			t.Cleanup(m.close)
			b, _ := reopen(t, shared{m}, time.Hour)
			for range 5 {
				submitTo(t, b)
			}
			require.NoError(t, b.saveMarks(t.Context(), 0))
			halt(b)
			m.mu.Lock()
			m.log = cut(m.log)
			m.last = m.log[len(m.log)-1].position
			m.mu.Unlock()
			_, logs := reopen(t, shared{m}, time.Hour)
			require.Equal(t, 1, logs.FilterMessageSnippet("lost the "+name).Len(), "%v", logs.All())
		})
	}
}

// A log without settings is not a new store.
func TestLostSettingsAreReported(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b, logs := reopen(t, shared{m}, time.Hour)
	submitTo(t, b)
	halt(b)
	require.Zero(t, logs.Len())
	m.mu.Lock()
	clear(m.settings)
	m.mu.Unlock()
	_, logs = reopen(t, shared{m}, time.Hour)
	require.Equal(t, 1, logs.FilterMessageSnippet("lost its settings").Len())
}

// On the disk a lost block, or one flipped bit without an index, cuts the log in
// silence.
func TestDamagedBlocksAreReported(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, block string){
		"gone": func(t *testing.T, block string) { require.NoError(t, os.Remove(block)) },
		"one bit": func(t *testing.T, block string) {
			data, err := os.ReadFile(block)
			require.NoError(t, err)
			data[len(data)/2] ^= 1
			require.NoError(t, os.WriteFile(block, data, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
			require.NoError(t, err)
			b, _ := reopen(t, s, time.Hour)
			for range 10 {
				submitTo(t, b)
			}
			require.NoError(t, b.saveMarks(t.Context(), 0))
			require.NoError(t, b.Close())
			messages := filepath.Join(dir, "jetstream", "$G", "streams", jobsStream, "msgs")
			damage(t, filepath.Join(messages, "1.blk"))
			require.NoError(t, os.Remove(filepath.Join(messages, "index.db")))

			core, logs := observer.New(zap.ErrorLevel)
			s, err = openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.New(core)})
			require.NoError(t, err)
			_, more := reopen(t, s, time.Hour)
			require.NotZero(t, logs.Len()+more.FilterLevelExact(zap.ErrorLevel).Len())
		})
	}
}

// A server that comes back with less than it has acknowledged, or with nothing, is not
// written to: the positions would come a second time.
func TestHealFindsLoss(t *testing.T) {
	for _, left := range []uint64{5, 0} {
		t.Run(fmt.Sprint(left), func(t *testing.T) { healLossy(t, left) })
	}
}

// healLossy heals a store of ten messages of which so many are left.
func healLossy(t *testing.T, left uint64) {
	dir, before := t.TempDir(), t.TempDir()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	publish := func(done func(uint64, error)) {
		s.publish(subjectOf(testKind, job.NewID()), 0, []byte("x"), done)
	}
	stored := func(n uint64) {
		var wg sync.WaitGroup
		for range n {
			wg.Add(1)
			publish(func(_ uint64, err error) { require.NoError(t, err); wg.Done() })
		}
		wg.Wait()
	}
	stored(left)
	s.embedded.shutdown() // so that the copy is whole
	copyTo(t, filepath.Join(dir, "jetstream"), before)
	require.NoError(t, s.embedded.restart())
	stored(10 - left)

	late := make(chan error, 1)
	s.acks.pause() // as heal would, but for the loss that is made here
	s.embedded.shutdown()
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "jetstream")))
	if left > 0 {
		copyTo(t, filepath.Join(before, "jetstream"), dir)
	}
	publish(func(_ uint64, err error) { late <- err })
	s.embedded.failed.Store(true)
	s.sick.Store(true)
	require.ErrorIs(t, s.heal(t.Context()), errLost)
	require.ErrorIs(t, s.heal(t.Context()), errLost, "it stays so")
	last, err := s.lastOf(t.Context())
	require.NoError(t, err)
	require.Equal(t, left, last, "nothing was written since")
	require.Error(t, s.set(t.Context(), probe, nil, false))
	s.close()
	require.ErrorIs(t, <-late, errClosed)
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	out, err := exec.Command("cp", "-r", from, to).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// Work ends with an error when the store has lost something: the process begins anew.
func TestWorkEndsWithALostStore(t *testing.T) {
	b := node(t, newShared(t))
	ended := make(chan error, 1)
	go func() {
		ended <- b.Work(t.Context(), time.Second, func(context.Context, *Task) error { return nil })
	}()
	b.spoil(errLost)
	require.ErrorIs(t, <-ended, errLost)
}

// A write that failed, for whatever reason, makes the embedded server answer none any
// more; it is started anew.
func TestFailedWriteHeals(t *testing.T) {
	s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	b, _ := reopen(t, s, time.Hour)
	id := submitTo(t, b)
	serverLog{zap.NewNop().Sugar(), s.embedded}.Errorf("JetStream stream '%s' critical write error: %v", "JOBS", "too many open files")
	require.Error(t, b.Ready(t.Context()))
	require.Eventually(t, func() bool { return b.Ready(t.Context()) == nil }, timeToWait, tick)
	require.NoError(t, claimFrom(t, b, id).succeed(t.Context()))
}

// After damage no part is swept: the one who names it may be what is damaged.
func TestNoSweepAfterDamage(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b, _ := reopen(t, shared{m}, time.Hour)
	task := claimFrom(t, b, submitTo(t, b))
	for range 3 {
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", partSize/2))))
	}
	require.NoError(t, task.succeed(t.Context()))
	require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
	halt(b)
	m.mu.Lock()
	m.log, m.tails = nil, map[string]uint64{} // as if it was purged
	m.archive[string(task.Job.ID)].data[20] ^= 1
	m.mu.Unlock()
	b, logs := reopen(t, shared{m}, time.Hour)
	require.Equal(t, 1, logs.FilterMessageSnippet("damaged archive entry").Len())
	_, err := b.Job(t.Context(), task.Job.ID)
	require.ErrorIs(t, err, job.ErrDamaged)
	body, err := b.store.archived(t.Context(), partName(string(task.Job.ID), 0))
	require.NoError(t, err)
	require.NotEmpty(t, body)
}

// A first message that is missing is told, and not looked for again and again.
func TestMissingFirstMessage(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	submitTo(t, b)
	id := job.NewID()
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: noise(2 * holdJob)}) // not held in memory
	require.NoError(t, err)
	m.mu.Lock()
	m.log = m.log[:1]
	m.mu.Unlock()
	_, err = b.History(t.Context(), id, job.Cursor{}, pageSize)
	require.ErrorIs(t, err, errMissing)
}

// What may be done once only is not done again because its kind was not configured
// when the server began.
func TestAtMostOnceWithoutItsKind(t *testing.T) {
	s := newShared(t)
	k := job.Kind{Name: testKind, AtMostOnce: true}
	for _, moved := range []bool{false, true} {
		b, _ := reopen(t, s, 0, k)
		task := claimFrom(t, b, submitTo(t, b))
		if moved {
			require.NoError(t, b.move(task.e))
		}
		halt(b)
		b, _ = reopen(t, s, 0, job.Kind{Name: "another"})
		j, err := b.Job(t.Context(), task.Job.ID)
		require.NoError(t, err)
		require.Equal(t, job.StatusFailed, j.Status)
		require.Contains(t, string(j.Output), "outcome-unknown")
		halt(b)
	}
}

// The largest input can be moved, too.
func TestMoveOfALargeInput(t *testing.T) {
	s := newShared(t)
	b, _ := reopen(t, s, 0, job.Kind{Name: testKind, MaxInput: maxPayload})
	id, input := job.NewID(), noise(maxPayload-1000)
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: input})
	require.NoError(t, err)
	require.NoError(t, b.move(entryOf(b, id)))
	got, _, err := b.input(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, input, got)
}

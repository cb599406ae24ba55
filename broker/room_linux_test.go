package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// disk opens a Broker on the embedded store in dir.
func disk(t *testing.T, dir string, maxStore int64) *Broker {
	t.Helper()
	k := job.Kind{Name: testKind, Concurrency: 100, MaxAttempts: 1, Retention: time.Minute}
	q := queue.New(k)
	b, err := Open(t.Context(), Options{
		Dir: dir, MaxStore: maxStore, Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}, Log: zaptest.NewLogger(t),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, timeToWait, 20*time.Millisecond, what)
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// attach says pieces of a result until there was no room for one for so long, or until it
// has said n bytes.
func attach(t *testing.T, task *Task, n int, patience time.Duration) (said []byte, err error) {
	for len(said) < n {
		piece := noise(job.PieceSize)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		err := task.Attach(ctx, piece)
		cancel()
		if err != nil {
			return said, err
		}
		said = append(said, piece...)
	}
	return said, nil
}

// What running jobs say can fill the store. Each of them can end all the same, all
// that is over is archived, and then there is room again.
func TestStoreFilledByRunningJobs(t *testing.T) {
	const limit = 8 << 20
	dir := t.TempDir()
	b := disk(t, dir, limit)
	fits, big := claimFrom(t, b, submitTo(t, b)), []*Task{}
	for range 4 {
		big = append(big, claimFrom(t, b, submitTo(t, b)))
	}
	result, err := attach(t, fits, 1<<20, timeToWait)
	require.NoError(t, err)
	for _, task := range big {
		_, err := attach(t, task, limit, 4*measureTime) // the wait for room is longer
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	_, err = b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errFull())
	eventually(t, "it takes what ends jobs", func() bool { return b.Ready(t.Context()) == nil }) // which gives a slow disk a second

	for _, task := range big {
		require.NoError(t, task.fail(t.Context(), errFull()))
		task.end()
	}
	last := noise(100)
	result = append(result, last...)
	fits.Succeed(attached(fits, result))
	require.NoError(t, fits.succeed(t.Context()))
	for _, task := range append(big, fits) {
		eventually(t, "archived", func() bool { return b.Archived(task.Job.ID) })
	}
	var used int64
	eventually(t, "the failed jobs' pieces are gone", func() bool {
		used = b.room.used.Load()
		return used < limit/4
	})
	require.Zero(t, b.room.owed.Load())
	require.Zero(t, b.room.inFlight.Load())
	submitTo(t, b)
	j, err := b.Job(t.Context(), fits.Job.ID)
	require.NoError(t, err)
	r, err := b.Result(t.Context(), j)
	require.NoError(t, err)
	var got bytes.Buffer
	_, err = got.ReadFrom(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(result, got.Bytes()), "the result is whole")

	require.NoError(t, b.Close())
	b = disk(t, dir, used/2) // lowered below what it has
	eventually(t, "it was measured", func() bool { return b.room.limit.Load() > 0 })
	_, err = b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errFull())
}

// smallDisk mounts a file system of 16 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); errors.Is(err, syscall.EPERM) {
		t.Skip("may not mount a small file system")
	} else {
		require.NoError(t, err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill takes all there is of the disk; free gives it back.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	require.NoError(t, err)
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for err = error(nil); err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(f.Name())) }
}

// submitSoon submits a job where there is room again: a write that had failed before may
// be told of yet, and then a submit is refused once more.
func submitSoon(t *testing.T, b *Broker) (id job.ID) {
	t.Helper()
	eventually(t, "there is room again", func() bool {
		id = job.NewID()
		_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind})
		return err == nil
	})
	return id
}

func TestDiskFull(t *testing.T) {
	dir := smallDisk(t)
	data := filepath.Join(dir, "data")
	b := disk(t, data, 1<<40)
	var tasks []*Task
	for range 20 {
		tasks = append(tasks, claimFrom(t, b, submitTo(t, b)))
	}
	require.NoError(t, tasks[0].Attach(t.Context(), noise(job.PieceSize)))

	free := fill(t, dir)
	ended := make(chan error, len(tasks))
	for _, task := range tasks {
		go func() { ended <- task.fail(t.Context(), errors.New("over")) }() // more than the disk's last page
	}
	eventually(t, "submits are refused", func() bool {
		return b.room.forSubmit(1) != nil
	})
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errFull())
	require.Len(t, typesOf(t, b, tasks[0].Job.ID)[:2], 2, "reads go on")
	eventually(t, "the server met the end of the disk", b.store.(*jetStream).embedded.full.Load)
	require.Error(t, b.Ready(t.Context()))

	free()
	for range tasks {
		require.NoError(t, <-ended)
	}
	eventually(t, "it is ready again", func() bool { return b.Ready(t.Context()) == nil })
	id := submitSoon(t, b)
	for _, task := range tasks {
		eventually(t, "archived", func() bool { return b.Archived(task.Job.ID) })
	}
	require.NoError(t, b.Close())

	b = disk(t, data, 1<<40)
	for _, task := range tasks {
		require.Equal(t, []job.Type{job.Queued, job.Running, job.Failed}, typesOf(t, b, task.Job.ID))
	}
	require.Equal(t, []job.Type{job.Queued}, typesOf(t, b, id))
}

// From the first write on that found no space nobody else has to wait for the same.
func TestSubmitBehindAFailedWrite(t *testing.T) {
	dir := smallDisk(t)
	b := disk(t, filepath.Join(dir, "data"), 1<<40)
	free := fill(t, dir)
	serverLog{b.log.Sugar(), b.store.(*jetStream).embedded}.Errorf("Critical write error: %v", syscall.ENOSPC)
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errFull())
	free()
	submitSoon(t, b) // though nothing else was to be written
}

// A server that was killed, and is started anew on a disk without any room, serves what
// it has.
func TestStartOnFullDisk(t *testing.T) {
	dir := smallDisk(t)
	data := filepath.Join(dir, "data")
	b := disk(t, data, 1<<40)
	id := submitTo(t, b)
	_, err := b.Secret(t.Context(), "any", []byte("old"))
	require.NoError(t, err)
	var ran []*Task
	for range 20 { // to take them back needs more than the disk's last page
		ran = append(ran, claimFrom(t, b, submitTo(t, b)))
	}
	require.NoError(t, b.Close())
	atTheEnd, err := filepath.Glob(filepath.Join(data, "jetstream/*/streams/*/msgs/index.db")) // to remove them makes room
	require.NoError(t, err)
	for _, name := range append(atTheEnd, filepath.Join(data, cleanFile)) {
		require.NoError(t, os.Remove(name))
	}

	free := fill(t, dir)
	b = disk(t, data, 1<<40)
	require.Equal(t, []job.Type{job.Queued}, typesOf(t, b, id))
	secret, err := b.Secret(t.Context(), "any", []byte("new"))
	require.NoError(t, err)
	require.Equal(t, "old", string(secret))
	_, err = b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.ErrorIs(t, err, errFull())

	free()
	submitSoon(t, b)
	for _, task := range ran {
		eventually(t, "its attempt is over", func() bool { return len(typesOf(t, b, task.Job.ID)) > 2 })
	}
}

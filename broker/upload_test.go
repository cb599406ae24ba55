package broker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// both runs a test on a store in memory and on an embedded one.
func both(t *testing.T, test func(t *testing.T, s store)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { test(t, newMemory()) })
	t.Run("embedded", func(t *testing.T) {
		s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		test(t, s)
	})
}

// largeKind takes inputs of four pieces.
var largeKind = job.Kind{Name: testKind, Concurrency: 100, MaxInput: 4 * job.PieceSize, QueueLimit: 2}

// bytesOf returns n bytes, each piece of them another.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>10 ^ i>>18)
	}
	return b
}

func uploadTo(t *testing.T, b *Broker, body []byte) *job.Upload {
	t.Helper()
	u, err := b.Upload(t.Context(), testKind, bytes.NewReader(body))
	require.NoError(t, err)
	return u
}

// uploadsIn returns the names of all pieces of inputs that are stored.
func uploadsIn(t *testing.T, b *Broker) []string {
	t.Helper()
	names, err := b.store.names(context.Background(), uploadPieces)
	require.NoError(t, err)
	return names
}

func requireUploads(t *testing.T, b *Broker, n int) {
	t.Helper()
	b.clean() // the archiver may be about it too
	require.Eventually(t, func() bool { return len(uploadsIn(t, b)) == n }, timeToWait, tick)
}

// A large input is read as it came, as often as it is asked for, from any place, by every
// attempt and behind the end; and goes with its job.
func TestUpload(t *testing.T) {
	both(t, func(t *testing.T, s store) {
		b, _ := reopen(t, s, 0, largeKind)
		for _, size := range []int{0, 1, job.PieceSize - 1, job.PieceSize, job.PieceSize + 1, 3*job.PieceSize + 7, 4 * job.PieceSize} {
			body := bytesOf(size)
			u := uploadTo(t, b, body)
			require.EqualValues(t, size, u.Size)
			require.Equal(t, sha256Of(body), u.SHA256)
			id := job.NewID()
			j, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: u, InputType: "x/y"})
			require.NoError(t, err)
			require.Equal(t, u, j.Upload)
			for attempt := range 2 {
				task := claimFrom(t, b, id)
				require.Empty(t, task.Input)
				require.Equal(t, u, task.Upload)
				require.Equal(t, "x/y", task.InputType)
				for range 2 {
					in, err := task.OpenUpload(t.Context())
					require.NoError(t, err)
					require.NoError(t, iotest.TestReader(in, body))
				}
				if attempt == 0 {
					require.NoError(t, task.back(t.Context()))
				} else {
					require.NoError(t, task.succeed(t.Context()))
				}
				task.end()
			}
			require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
			r, err := b.Request(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, u, r.Upload)
			require.NoError(t, iotest.TestReader(b.OpenUpload(t.Context(), r.Upload), body))
			requireUploads(t, b, (size+job.PieceSize-1)/job.PieceSize)
			require.NoError(t, b.Erase(t.Context(), id, "me"))
			require.Empty(t, uploadsIn(t, b))
		}
	})
}

// What comes to no job leaves no input.
func TestUploadRefused(t *testing.T) {
	both(t, func(t *testing.T, s store) {
		b, _ := reopen(t, s, 0, largeKind)
		ctx := t.Context()
		broken := errors.New("cut")
		_, err := b.Upload(ctx, testKind, io.MultiReader(strings.NewReader(strings.Repeat("x", job.PieceSize+1)), iotest.ErrReader(broken)))
		require.Equal(t, broken, err)
		requireUploads(t, b, 0)
		_, err = b.Upload(ctx, testKind, io.MultiReader(strings.NewReader(strings.Repeat("x", job.PieceSize+1)), iotest.ErrReader(io.ErrUnexpectedEOF)))
		require.Equal(t, io.ErrUnexpectedEOF, err, "an end that did not come is none")
		requireUploads(t, b, 0)

		_, err = b.Submit(ctx, job.NewID(), &job.Request{Kind: testKind, Upload: uploadTo(t, b, bytesOf(4*job.PieceSize+1))})
		require.ErrorIs(t, err, job.ErrTooLarge)
		requireUploads(t, b, 0)

		request := func() *job.Request { return &job.Request{Kind: testKind, Upload: uploadTo(t, b, bytesOf(9))} }
		first, _, err := b.SubmitOnce(ctx, "key", "f", request())
		require.NoError(t, err)
		again, replayed, err := b.SubmitOnce(ctx, "key", "f", request())
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, first.Upload, again.Upload)
		_, _, err = b.SubmitOnce(ctx, "key", "another", request())
		require.ErrorIs(t, err, errKeyReused)
		_, err = b.Submit(ctx, first.ID, request())
		require.NoError(t, err, "the id is that of a job")
		requireUploads(t, b, 1)

		body := func() io.Reader { return bytes.NewReader(bytesOf(9)) }
		known, err := b.UploadOnce(ctx, "", "key", testKind, body())
		require.NoError(t, err)
		require.Equal(t, &job.Upload{Size: 9, SHA256: sha256Of(bytesOf(9))}, known, "nothing is stored")
		again, replayed, err = b.SubmitOnce(ctx, "key", "f", &job.Request{Kind: testKind, Upload: known})
		require.NoError(t, err)
		require.True(t, replayed)
		require.Equal(t, first.ID, again.ID)
		_, _, err = b.SubmitOnce(ctx, "other", "f", &job.Request{Kind: testKind, Upload: known})
		require.ErrorIs(t, err, errKeyGone, "it has no input")
		stored, err := b.UploadOnce(ctx, "", "other", testKind, body())
		require.NoError(t, err)
		require.NotEmpty(t, stored.ID)
		b.Discard(stored)
		_, err = b.UploadOnce(ctx, "", "key", testKind, iotest.ErrReader(broken))
		require.Equal(t, broken, err)
		requireUploads(t, b, 1)

		last := request()
		_, err = b.Submit(ctx, job.NewID(), request())
		require.NoError(t, err)
		_, err = b.Submit(ctx, job.NewID(), last)
		require.ErrorIs(t, err, job.ErrQueueFull)
		_, err = b.Upload(ctx, testKind, iotest.ErrReader(errors.New("not to be read")))
		require.ErrorIs(t, err, job.ErrQueueFull)
		_, err = b.UploadOnce(ctx, "", "key", testKind, body())
		require.NoError(t, err, "the job is there")
		requireUploads(t, b, 2)

		b.Drain()
		_, err = b.Upload(ctx, testKind, strings.NewReader("x"))
		require.ErrorIs(t, err, job.ErrDraining)
		requireUploads(t, b, 2)
	})
}

// A piece that comes to be stored when its upload was given up does not stay.
func TestUploadLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &late{newShared(t)}
		b := node(t, s)
		_, err := b.Upload(t.Context(), testKind, strings.NewReader("x"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(5 * time.Second)
		require.Len(t, uploadsIn(t, b), 1)
		time.Sleep(lateTime)
		require.Empty(t, uploadsIn(t, b))
	})
}

// late is a store that takes what is put into it a moment after its caller has gone.
type late struct{ store }

func (s *late) place(ctx context.Context, name string, data []byte, ttl time.Duration) (uint64, error) {
	<-ctx.Done()
	time.AfterFunc(2*purgeTime, func() { _ = s.put(context.Background(), name, data, ttl) })
	return 0, ctx.Err()
}

// TestCrashInUpload ends the process before and after each step of a job with a large
// input: either there is the job, with all of it, or there is nothing of it.
func TestCrashInUpload(t *testing.T) { atEveryStep(t, crashInUpload) }

func crashInUpload(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: n, after: after}
	b := node(t, c)
	id, body := job.NewID(), bytesOf(job.PieceSize+1)
	u, err := b.Upload(t.Context(), testKind, bytes.NewReader(body))
	if err == nil {
		_, err = b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: u})
	}
	finished = c.end(b)
	for over := range 2 {
		next := node(t, s)
		j, found := next.Job(t.Context(), id)
		if err == nil {
			require.NoError(t, found)
		}
		if found != nil {
			requireUploads(t, next, 0)
			return finished
		}
		requireUploads(t, next, 2)
		require.NoError(t, iotest.TestReader(next.OpenUpload(t.Context(), j.Upload), body))
		if over == 0 {
			require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
			require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
		}
		halt(next)
	}
	return finished
}

// An input of which a piece is damaged, or gone, is told to be, wherever the reader is.
func TestUploadDamaged(t *testing.T) {
	for name, body := range map[string][]byte{"changed": []byte("0000no piece"), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			b := node(t, newShared(t))
			u := uploadTo(t, b, bytesOf(2*job.PieceSize))
			require.NoError(t, b.store.put(t.Context(), uploadPiece(u.ID, 1), body, 0))
			read, err := io.ReadAll(b.OpenUpload(t.Context(), u))
			require.ErrorIs(t, err, job.ErrDamaged)
			require.Equal(t, bytesOf(job.PieceSize), read)
		})
	}
	b := node(t, newShared(t))
	u := uploadTo(t, b, bytesOf(job.PieceSize))
	require.NoError(t, b.removeUpload(t.Context(), u.ID))
	_, err := io.ReadAll(b.OpenUpload(t.Context(), u))
	require.ErrorIs(t, err, job.ErrDamaged)
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// After damage no input is removed that no job names: the job may be what is damaged.
func TestNoSweepOfUploadsAfterDamage(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b, _ := reopen(t, shared{m}, time.Hour)
	id := job.NewID()
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: uploadTo(t, b, bytesOf(job.PieceSize))})
	require.NoError(t, err)
	halt(b)
	m.mu.Lock()
	m.log[0].data[len(m.log[0].data)-1] ^= 1
	m.mu.Unlock()
	b, _ = reopen(t, shared{m}, time.Hour)
	_, err = b.Job(t.Context(), id)
	require.ErrorIs(t, err, job.ErrDamaged)
	requireUploads(t, b, 1)
}

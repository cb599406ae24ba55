package brokertest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
)

func testResult(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	defer stop()
	task, m := next() // an attempt that leaves pieces and fails
	require.NoError(t, task.Attach(t.Context(), make([]byte, job.PieceSize)))
	m.Nack()
	task, m = next()
	require.Error(t, task.Attach(t.Context(), []byte("less than a piece")))
	want := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(want)
	const piece = job.PieceSize
	rest := want
	for ; len(rest) > piece; rest = rest[piece:] {
		require.NoError(t, task.Attach(t.Context(), rest[:piece]))
	}
	rec := succeeded("by reference")
	rec.Private = &job.Private{Result: &job.Result{Type: "application/x-test", Size: int64(len(want)), Lease: task.Job.Lease}}
	task.Succeed(broker.Success{Record: rec, Piece: rest})
	m.Ack()
	j := r.await(id, over)
	for _, archived := range []bool{false, true} {
		if archived {
			r.awaitArchived(id)
		}
		res, err := r.Result(t.Context(), j)
		require.NoError(t, err)
		got, err := io.ReadAll(res)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "archived: %v", archived)
		for _, at := range []int64{0, 1, piece - 1, piece, 2<<20 + 7, int64(len(want)) - 1} {
			_, err := res.Seek(at, io.SeekStart)
			require.NoError(t, err)
			one := make([]byte, 1)
			_, err = io.ReadFull(res, one)
			require.NoError(t, err)
			require.Equal(t, want[at], one[0])
		}
	}
}

func testArchive(t *testing.T, s Store) {
	r := open(t, s, nil)
	next, stop := r.attempts()
	defer stop()
	var ids []job.ID
	for range 20 {
		id := r.submit("x")
		_, m := next()
		m.Ack()
		ids = append(ids, id)
	}
	before := map[job.ID][]job.Event{}
	for _, id := range ids {
		r.await(id, over)
		before[id] = r.history(id, job.Cursor{})
	}
	live := r.submit("still here")
	for _, id := range ids {
		r.awaitArchived(id)
		require.Equal(t, before[id], r.history(id, job.Cursor{}), "ids and all are the same from the archive")
		j, err := r.Job(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, job.StatusSucceeded, j.Status)
		require.False(t, j.ExpiresAt.IsZero())
	}
	require.Eventually(t, func() bool { return r.Purged() >= before[ids[19]][2].Place.Position }, patience, 10*time.Millisecond,
		"the log is not purged behind the archive")
	j, err := r.Job(t.Context(), live)
	require.NoError(t, err)
	require.False(t, j.Status.Over())
	_, m := next()
	require.Equal(t, "still here", string(m.Payload))
	m.Ack()
	r.await(live, over)
}

func testLargeJob(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	chunk := strings.Repeat("large job ", 10_000)
	for i := range 30 {
		require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Output, Data: job.MustData(map[string]any{"index": i, "chunk": chunk})}))
	}
	lease := task.Job.Lease
	rec := succeeded("x")
	rec.Private = &job.Private{Result: &job.Result{Size: int64(30 * len(chunk)), Lease: lease, Output: true}}
	task.Succeed(broker.Success{Record: rec})
	m.Ack()
	j := r.await(id, over)
	before := r.history(id, job.Cursor{})
	r.awaitArchived(id)
	require.Len(t, before, 33)
	require.Equal(t, before, r.history(id, job.Cursor{}))
	require.Equal(t, before[20:], r.history(id, before[19].Cursor()))
	res, err := r.Result(t.Context(), j)
	require.NoError(t, err)
	got, err := io.ReadAll(res)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat(chunk, 30), string(got))
}

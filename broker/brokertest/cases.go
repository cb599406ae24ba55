package brokertest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
)

func testSubmit(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("hello")
	j, err := r.Job(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, job.StatusQueued, j.Status)
	require.Equal(t, "somebody", j.Owner)
	require.Equal(t, 1, j.Attempt)
	require.Equal(t, job.DefaultMaxAttempts, j.MaxAttempts)
	require.EqualValues(t, 1, j.Cursor.Seq)
	require.Equal(t, []job.Type{job.Queued}, r.types(id))

	_, err = r.Job(t.Context(), job.NewID())
	require.ErrorIs(t, err, job.ErrNotFound)
	_, err = r.History(t.Context(), job.NewID(), job.Cursor{}, pageSize)
	require.ErrorIs(t, err, job.ErrNotFound)
}

func testSameID(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := job.NewID()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := r.Submit(t.Context(), id, &job.Request{Kind: kind, Input: []byte("x")})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.Equal(t, []job.Type{job.Queued}, r.types(id))
	queued, _ := r.queue.Depth(kind)
	require.Equal(t, 1, queued)
}

func testHostile(t *testing.T, s Store) {
	r := open(t, s, nil)
	for _, topic := range []string{"", "jobs", "jobs.", "jobs.*", "jobs.>", "jobs.a.b", "jobs.a b", "jobs.é", "jobs." + strings.Repeat("k", 65), "other.k"} {
		err := r.Publisher().Publish(topic, message.NewMessage("1", nil))
		require.Error(t, err, topic)
	}
}

func testLife(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("the input")
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	require.Equal(t, "the input", string(task.Input))
	require.Equal(t, "text/plain", task.InputType)
	require.Equal(t, id, task.Job.ID)
	require.Equal(t, string(id), m.UUID)
	require.NoError(t, task.Append(t.Context(),
		job.Record{Type: job.Progress, Data: job.MustData(map[string]int{"progress": 1})},
		job.Record{Type: "custom.name", Data: job.MustData(map[string]string{"evil": "\r\n\r\nid: 1\u2028"})}))
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Output, Data: job.MustData(map[string]any{"index": 0, "chunk": "x"})}))
	require.ErrorIs(t, task.Append(t.Context(), job.Record{Type: "stream.reset"}), job.ErrFold)
	require.ErrorIs(t, task.Append(t.Context(), job.Record{Type: "not\na name"}), job.ErrFold)
	task.Succeed(broker.Success{Record: succeeded("done")})
	m.Ack()
	j := r.await(id, over)
	require.Equal(t, job.StatusSucceeded, j.Status)
	require.JSONEq(t, `{"result":"done"}`, string(j.Output))
	require.JSONEq(t, `{"progress":1}`, string(j.Progress))
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Progress, "custom.name", job.Output, job.Succeeded}, r.types(id))
	require.ErrorIs(t, task.Append(t.Context(), job.Record{Type: job.Progress}), job.ErrLeaseLost)
}

func testJoining(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 100 {
		wg.Go(func() {
			<-start
			for range 4 {
				require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Log, Data: job.MustData(map[string]string{"line": "l"})}))
			}
		})
	}
	close(start)
	wg.Wait()
	m.Ack()
	r.await(id, over)
	events := r.history(id, job.Cursor{})
	require.Len(t, events, 403)
	for i, e := range events {
		require.EqualValues(t, i+1, e.Seq)
	}
}

func testPages(t *testing.T, s Store) {
	r := open(t, s, nil)
	id, other := r.submit("in"), r.submit("")
	next, stop := r.attempts()
	defer stop()
	one, ack := next()
	two, ackToo := next()
	defer ack.Ack()
	defer ackToo.Ack()
	for i := range 300 { // more than is held in memory
		rec := job.Record{Type: job.Output, Data: job.MustData(map[string]any{"index": i, "chunk": strings.Repeat("x", i)})}
		require.NoError(t, one.Append(t.Context(), rec))
		require.NoError(t, two.Append(t.Context(), rec))
	}
	for _, id := range []job.ID{id, other} {
		events := r.history(id, job.Cursor{})
		require.Len(t, events, 302)
		for i, e := range events {
			require.EqualValues(t, i+1, e.Seq)
			require.Equal(t, id, e.Job)
		}
		for _, size := range []int{1, 4 << 10, 1 << 20} {
			require.Equal(t, events, r.pages(id, job.Cursor{}, size))
			require.Equal(t, events[200:], r.pages(id, events[199].Cursor(), size), "any id is a resume point")
		}
	}
}

func testCursors(t *testing.T, s Store) {
	r := open(t, s, nil)
	id, other := r.submit(""), r.submit("")
	check := func(when string) {
		events := r.history(id, job.Cursor{})
		for i, e := range events {
			require.Len(t, r.history(id, e.Cursor()), len(events)-i-1, when)
			for _, bad := range []job.Cursor{
				{Seq: e.Seq, Place: job.Place{Position: e.Place.Position + 1, Epoch: e.Place.Epoch}},
				{Seq: e.Seq, Place: job.Place{Position: e.Place.Position, Epoch: e.Place.Epoch + 1}},
				{Seq: e.Seq + 1, Place: e.Place},
				{Seq: e.Seq + 1000, Place: job.Place{Position: e.Place.Position + 1000, Epoch: e.Place.Epoch}},
				{Seq: e.Seq, Place: job.Place{Epoch: e.Place.Epoch}},
				{Seq: 1<<64 - 1, Place: job.Place{Position: 1<<64 - 1, Epoch: 1<<32 - 1}},
			} {
				joined := i+1 < len(events) && events[i+1].Cursor() == bad
				_, err := r.History(t.Context(), id, bad, pageSize)
				if !joined {
					require.ErrorIs(t, err, job.ErrCursor, "%s: %v", when, bad)
				}
			}
			_, err := r.History(t.Context(), other, e.Cursor(), pageSize)
			require.ErrorIs(t, err, job.ErrCursor, when)
		}
	}
	check("queued")
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	_, m2 := next()
	if task.Job.ID != id {
		m, m2 = m2, m
		task = broker.TaskOf(m)
	}
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Progress}, job.Record{Type: job.Progress}))
	check("running")
	require.NoError(t, task.Attach(t.Context(), make([]byte, job.PieceSize)))
	j, err := r.Job(t.Context(), id)
	require.NoError(t, err)
	require.Empty(t, r.history(id, j.Cursor), "the job's cursor is that of its last event")
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Progress}))
	check("with an attachment between")
	m.Ack()
	r.await(id, over)
	r.awaitArchived(id)
	check("finished")
	m2.Ack()
}

// awaitArchived waits until the job's events come from the archive: the log is
// purged behind it then.
func (r *rig) awaitArchived(id job.ID) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.Archived(id) }, patience, time.Millisecond, "the job was not archived")
}

func testOldHolder(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	old, _ := next()
	stop() // hands the job back
	next, stop = r.attempts()
	defer stop()
	now, m := next()
	require.Equal(t, old.Job.Attempt, now.Job.Attempt, "handing back costs no attempt")
	require.ErrorIs(t, old.Append(t.Context(), job.Record{Type: job.Progress}), job.ErrLeaseLost)
	require.ErrorIs(t, old.Attach(t.Context(), make([]byte, job.PieceSize)), job.ErrLeaseLost)
	require.NoError(t, now.Append(t.Context(), job.Record{Type: job.Progress}))
	m.Ack()
	r.await(id, over)
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Queued, job.Running, job.Progress, job.Succeeded}, r.types(id))
}

func testRetry(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	defer stop()
	for range job.DefaultMaxAttempts {
		_, m := next()
		m.Nack()
	}
	j := r.await(id, over)
	require.Equal(t, job.StatusFailed, j.Status)
	require.Equal(t, []job.Type{
		job.Queued, job.Running, job.AttemptFailed, job.Queued, job.Running, job.AttemptFailed, job.Queued, job.Running, job.Failed,
	}, r.types(id))
	attempts := []int{}
	for _, e := range r.history(id, job.Cursor{}) {
		attempts = append(attempts, e.Attempt)
	}
	require.Equal(t, []int{1, 1, 1, 2, 2, 2, 3, 3, 3}, attempts)
}

func testFinalFailure(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- r.Work(ctx, 0, func(context.Context, *broker.Task) error {
			return job.Problemf("exit-status", "exit status 3")
		})
	}()
	j := r.await(id, over)
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Failed}, r.types(id))
	require.Contains(t, string(j.Output), "exit status 3")
	require.Contains(t, string(j.Output), "/problems/exit-status")
	cancel()
	require.NoError(t, <-done)
}

func testCancel(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.Concurrency = 1 })
	running := r.submit("")
	next, stop := r.attempts()
	defer stop()
	_, m := next()
	queued := r.submit("")
	j, err := r.Cancel(t.Context(), queued, "me", "why not")
	require.NoError(t, err)
	require.Equal(t, job.StatusCanceled, j.Status)
	j, err = r.Cancel(t.Context(), running, "me", "enough")
	require.NoError(t, err)
	require.Equal(t, job.StatusRunning, j.Status)
	require.False(t, j.CancelRequestedAt.IsZero())
	<-m.Context().Done()
	_, err = r.Cancel(t.Context(), running, "me", "again")
	require.NoError(t, err)
	m.Nack()
	r.await(running, over)
	require.Equal(t, []job.Type{job.Queued, job.Running, job.CancelRequested, job.Canceled}, r.types(running))
	require.Equal(t, []job.Type{job.Queued, job.Canceled}, r.types(queued))
	j, err = r.Cancel(t.Context(), running, "me", "too late")
	require.NoError(t, err)
	require.Equal(t, job.StatusCanceled, j.Status)
	_, err = r.Cancel(t.Context(), job.NewID(), "me", "")
	require.ErrorIs(t, err, job.ErrNotFound)
}

func testQueueFull(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.QueueLimit = 5 })
	for range 5 {
		r.submit("")
	}
	id := job.NewID()
	_, err := r.Submit(t.Context(), id, &job.Request{Kind: kind})
	require.ErrorIs(t, err, job.ErrQueueFull)
	_, err = r.Job(t.Context(), id)
	require.ErrorIs(t, err, job.ErrNotFound)
	_, err = r.Submit(t.Context(), id, &job.Request{Kind: kind, Input: make([]byte, job.DefaultMaxInput+1)})
	require.ErrorIs(t, err, job.ErrTooLarge)
}

func testHandBack(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := r.submit("")
	next, stop := r.attempts()
	_, m := next()
	r.Drain()
	_, err := r.Submit(t.Context(), job.NewID(), &job.Request{Kind: kind})
	require.ErrorIs(t, err, job.ErrDraining)
	stop()
	<-m.Context().Done()
	j, err := r.Job(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, job.StatusQueued, j.Status)
	require.Equal(t, 1, j.Attempt)
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Queued}, r.types(id))
}

func testRestart(t *testing.T, s Store) {
	r := open(t, s, nil)
	finished, running, queued := r.submit("1"), job.ID(""), job.ID("")
	next, stop := r.attempts()
	_, m := next()
	m.Ack()
	r.await(finished, over)
	running = r.submit("2")
	task, _ := next()
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Progress}))
	stop()
	queued = r.submit("3")
	var before [][]job.Event
	for _, id := range []job.ID{finished, running, queued} {
		before = append(before, r.history(id, job.Cursor{}))
	}
	r.close()

	r = open(t, s, nil)
	for i, id := range []job.ID{finished, running, queued} {
		require.Equal(t, before[i], r.history(id, job.Cursor{}), "id and epoch are the same after a clean restart")
	}
	next, stop = r.attempts()
	defer stop()
	for range 2 {
		_, m := next()
		m.Ack()
	}
	require.Equal(t, job.StatusSucceeded, r.await(running, over).Status)
	require.Equal(t, job.StatusSucceeded, r.await(queued, over).Status)
	again := r.submit("4")
	require.Greater(t, r.history(again, job.Cursor{})[0].Place.Position, before[2][0].Place.Position, "no position is used twice")
}

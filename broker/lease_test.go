package broker

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// A worker that is gone costs its job an attempt, and at the last the job.
func TestLostLeases(t *testing.T) {
	k := job.Kind{Name: testKind, Lease: time.Minute, MaxAttempts: 2}
	q := queue.New(k)
	b, err := open(t.Context(), newMemory(), Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	worked := make(chan error, 1)
	go func() {
		worked <- b.Work(ctx, 0, func(context.Context, *Task) error { return job.ErrLeaseLost })
	}()
	j, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.NoError(t, err)
	for range 2 {
		id, _, err := b.Lease(t.Context(), "w", testKind)
		require.NoError(t, err)
		require.Equal(t, j.ID, id)
	}
	require.Eventually(t, func() bool {
		j, err = b.Job(t.Context(), j.ID)
		return err == nil && j.Status.Over()
	}, timeToWait, tick)
	var end struct{ Error job.Problem }
	require.NoError(t, json.Unmarshal(j.Output, &end))
	require.Equal(t, "attempts-used-up", end.Error.Name())
	require.Equal(t, "the worker of attempt 2 of 2 was not heard of any more", end.Error.Detail)
	events, err := b.History(t.Context(), j.ID, job.Cursor{}, pageSize)
	require.NoError(t, err)
	require.Contains(t, string(events[2].Data), `"attempt":2,"reason":"lease-lost"`)
	cancel()
	require.NoError(t, <-worked)
	require.NoError(t, b.Close())
}

// A kind that is not pulled any more has nobody who would go on.
func TestLeasesOfAKindThatIsPulledNoMore(t *testing.T) {
	s := newShared(t)
	b := pulling(t, s)
	id := submitTo(t, b)
	claimFrom(t, b, id)
	j, err := node(t, s).Job(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, job.StatusQueued, j.Status)
	require.Equal(t, 2, j.Attempt)
}

// pulling returns a broker whose kind is pulled.
func pulling(t *testing.T, s store) *Broker {
	t.Helper()
	k := job.Kind{Name: testKind, Lease: time.Minute}
	q := queue.New(k)
	b, err := open(t.Context(), s, Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// What the next process has to know of an attempt is in a part record too.
func TestMovedLease(t *testing.T) {
	s := newShared(t)
	b := pulling(t, s)
	id := submitTo(t, b)
	task := claimFrom(t, b, id)
	require.NoError(t, task.Append(t.Context(), output("x"), job.Record{Type: job.Checkpoint, Data: []byte(`{"page":4}`)}))
	require.NoError(t, b.move(entryOf(b, id)))
	b.purgeBelow(b.mark())

	next := pulling(t, s)
	left := next.left(testKind)
	require.Len(t, left, 1)
	defer left[0].end()
	require.Equal(t, task.lease, left[0].lease)
	require.True(t, task.timeoutAt.Equal(left[0].timeoutAt))
	require.JSONEq(t, `{"page":4}`, string(left[0].Job.Checkpoint))
	var earlier []job.Type
	require.NoError(t, left[0].Earlier(t.Context(), func(r *job.Record) { earlier = append(earlier, r.Type) }))
	require.Equal(t, []job.Type{job.Output, job.Checkpoint}, earlier)
	require.Empty(t, next.left(testKind), "it has its task")
}

// A process that comes back after the attempt's time is over ends it at once.
func TestLeaseWhoseTimeIsOver(t *testing.T) {
	s := newShared(t)
	b := pulling(t, s)
	j, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind, Timeout: time.Millisecond, MaxAttempts: 1})
	require.NoError(t, err)
	claimFrom(t, b, j.ID)
	next := pulling(t, s)
	sub := next.Subscriber(0)
	_, err = sub.Subscribe(t.Context(), Topic(testKind))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		j, err = next.Job(t.Context(), j.ID)
		return err == nil && j.Status == job.StatusFailed
	}, timeToWait, tick)
	require.Contains(t, string(j.Output), "attempt-timeout")
	require.NoError(t, sub.Close())
}

// Who asks for work is told that the store is full, as who brings it.
func TestLeaseOfAFullStore(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := pulling(t, h)
	sub := b.Subscriber(0)
	_, err := sub.Subscribe(t.Context(), Topic(testKind))
	require.NoError(t, err)
	submitTo(t, b)
	h.onPublish = func(_ func(func(uint64, error)), done func(uint64, error)) { go done(0, errFull()) }
	_, _, err = b.Lease(t.Context(), "w", testKind)
	requireProblem(t, errFull(), err)
	h.onPublish = nil
	require.NoError(t, sub.Close())
}

// A job that is canceled while somebody takes it is taken or not, and nobody looks at it
// while it changes.
func TestLeaseAndCancelRace(t *testing.T) {
	b := pulling(t, newShared(t))
	sub := b.Subscriber(0)
	out, err := sub.Subscribe(t.Context(), Topic(testKind))
	require.NoError(t, err)
	go func() {
		for m := range out {
			m.Nack()
		}
	}()
	for range 200 {
		id := submitTo(t, b)
		var race sync.WaitGroup
		race.Go(func() {
			_, err := b.Cancel(t.Context(), id, "", "")
			require.NoError(t, err)
		})
		race.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // it takes what there is
			_, _, err := b.Lease(ctx, "w", testKind)
			require.True(t, err == nil || errors.Is(err, job.ErrNotFound), "%v", err)
		})
		race.Wait()
		require.Eventually(t, func() bool {
			j, err := b.Job(t.Context(), id)
			return err == nil && j.Status.Over()
		}, timeToWait, tick)
	}
	require.NoError(t, sub.Close())
}

// A worker that says its last when the patience with it is over may be heard or not.
func TestLateFinish(t *testing.T) {
	b := pulling(t, newShared(t))
	for range 20 {
		task := claimFrom(t, b, submitTo(t, b))
		var race sync.WaitGroup
		race.Go(task.Finish)
		require.NoError(t, task.fail(t.Context(), job.Problemf("attempt-failed", "no")))
		race.Wait()
	}
}

// Whoever works on a job that was asked to stop is told so, and has the time to say its
// last, also by the process that begins behind the request.
func TestCancelOutlivesProcess(t *testing.T) {
	s := newShared(t)
	b := pulling(t, s)
	leases := map[job.ID]uint64{}
	for range 8 {
		id := submitTo(t, b)
		leases[id] = claimFrom(t, b, id).lease
		_, err := b.Cancel(t.Context(), id, "", "")
		require.NoError(t, err)
	}
	next := pulling(t, s)
	sub := next.Subscriber(0)
	out, err := sub.Subscribe(t.Context(), Topic(testKind))
	require.NoError(t, err)
	for range 8 {
		select {
		case m := <-out:
			task := TaskOf(m)
			require.Equal(t, leases[task.Job.ID], task.lease)
			require.ErrorIs(t, context.Cause(m.Context()), job.ErrCanceled)
			m.Ack() // it was done a moment before
			<-task.Ended()
			require.Equal(t, job.StatusSucceeded, statusOf(t, next, task.Job.ID))
		case <-time.After(timeToWait):
			t.Fatal("it is ended unheard")
		}
	}
	require.NoError(t, sub.Close())
}

func statusOf(t *testing.T, b *Broker, id job.ID) job.Status {
	t.Helper()
	j, err := b.Job(t.Context(), id)
	require.NoError(t, err)
	return j.Status
}

// Whoever asks for work is not told of a job's damage: the next one is as good.
func TestLeaseGoesRoundADamagedJob(t *testing.T) {
	for name, damage := range map[string]func(m *memory, i int){
		"changed": func(m *memory, i int) { m.log[i].data = append([]byte("x"), m.log[i].data[1:]...) },
		"missing": func(m *memory, i int) { m.log = slices.Delete(m.log, i, i+1) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			t.Cleanup(m.close)
			b := pulling(t, shared{m})
			ctx, cancel := context.WithCancel(t.Context())
			worked := make(chan error, 1)
			go func() {
				worked <- b.Work(ctx, 0, func(context.Context, *Task) error { return nil })
			}()
			bad := job.NewID()
			_, err := b.Submit(t.Context(), bad, &job.Request{Kind: testKind, Input: noise(2 * holdJob)}) // not held in memory
			require.NoError(t, err)
			good := submitTo(t, b)
			m.mu.Lock()
			damage(m, 0)
			m.mu.Unlock()
			id, _, err := b.Lease(t.Context(), "w", testKind)
			require.NoError(t, err)
			require.Equal(t, good, id)
			require.Eventually(t, func() bool {
				patience, cancel := context.WithTimeout(t.Context(), tick)
				defer cancel()
				_, _, err := b.Lease(patience, "w", testKind)
				require.ErrorIs(t, err, job.ErrNotFound)
				_, err = b.Job(t.Context(), bad)
				return errors.Is(err, job.ErrDamaged)
			}, timeToWait, tick, "it is looked for some times, and then no more")
			cancel()
			require.NoError(t, <-worked)
		})
	}
}

package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// hook is a store whose publishes go through a function first.
type hook struct {
	store
	onPublish func(next func(done func(uint64, error)), done func(uint64, error))
}

func (h *hook) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	next := func(done func(uint64, error)) { h.store.publish(subject, fence, data, done) }
	if h.onPublish == nil {
		next(done)
		return
	}
	h.onPublish(next, done)
}

const testKind = "k"

// node opens a Broker on a store that others may use as well.
func node(t *testing.T, s store) *Broker {
	t.Helper()
	return telling(t, s, nil)
}

// telling is node, with somebody who is told of deliveries.
func telling(t *testing.T, s store, due func(*job.Delivery) bool) *Broker {
	t.Helper()
	k := job.Kind{Name: testKind, Concurrency: 100, Backoff: job.Backoff{First: 1, Max: 1}}
	q := queue.New(k)
	b, err := open(t.Context(), s, Options{Kinds: []job.Kind{k}, Queue: q, Due: due, Folds: []func(*job.Commit){q.Fold}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// shared is a store that many brokers close, and the test outlives.
type shared struct{ store }

func (shared) close() {}

func newShared(t *testing.T) store {
	m := newMemory()
	t.Cleanup(m.close)
	return shared{m}
}

// unpurged is a store that two brokers write to at once, which none does outside of tests: each of
// them would purge what only the other needs, as soon as a test takes longer than a few seconds.
type unpurged struct{ store }

func (unpurged) purge(context.Context, uint64) error { return nil }

func submitTo(t *testing.T, b *Broker) job.ID {
	t.Helper()
	id := job.NewID()
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: []byte("in")})
	require.NoError(t, err)
	return id
}

func claimFrom(t *testing.T, b *Broker, id job.ID) *Task {
	t.Helper()
	task, err := b.claim(t.Context(), id, "")
	require.NoError(t, err)
	t.Cleanup(task.end)
	return task
}

// typesOf returns the types of a job's events; it fails unless seq is dense.
func typesOf(t *testing.T, b *Broker, id job.ID) (types []job.Type) {
	t.Helper()
	for i, e := range allEvents(t, b, id) {
		require.EqualValues(t, i+1, e.Seq)
		types = append(types, e.Type)
	}
	return types
}

func progress() job.Record { return job.Record{Type: job.Progress} }

func TestJoinedWhileInFlight(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	task := claimFrom(t, b, submitTo(t, b))
	release := make(chan struct{})
	var published int
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) {
		published++ // under the broker's lock
		go func() { <-release; next(done) }()
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() { require.NoError(t, task.Append(t.Context(), progress())) })
	}
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(task.e.pending) == 99
	}, timeToWait, tick)
	close(release)
	wg.Wait()
	require.Equal(t, 2, published, "99 events that came while one was in flight are one message")
	require.Len(t, typesOf(t, b, task.Job.ID), 102)
}

// A publish that was stored but whose answer was lost is refused when it is
// repeated: the broker must know its own message again.
func TestOwnMessageFound(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) {
		next(func(uint64, error) { next(done) }) // the answer is lost, the same bytes go again
	}
	id := submitTo(t, b)
	task := claimFrom(t, b, id)
	require.NoError(t, task.Append(t.Context(), progress(), progress()))
	require.NoError(t, task.succeed(t.Context()))
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Progress, job.Progress, job.Succeeded}, typesOf(t, b, id))
}

// follow makes b know a job that another node stored, as its tail would.
func follow(t *testing.T, b *Broker, id job.ID) *entry {
	t.Helper()
	e := b.entry(testKind, id, "")
	err := b.append(t.Context(), e, &write{propose: func(j *job.Job) ([]job.Record, bool) { return nil, !j.Exists() }})
	require.ErrorIs(t, err, job.ErrLeaseLost)
	require.True(t, e.job.Exists())
	return e
}

func TestCancelAdopted(t *testing.T) {
	s := unpurged{newShared(t)}
	a, b := node(t, s), node(t, s)
	id := submitTo(t, a)
	task := claimFrom(t, a, id)
	follow(t, b, id)
	_, err := b.Cancel(t.Context(), id, "b", "")
	require.NoError(t, err)
	require.NoError(t, task.Append(t.Context(), progress()), "a cancel request came between: the lease still holds")
	<-task.ctx.Done()
	require.ErrorIs(t, context.Cause(task.ctx), job.ErrCanceled)
	require.NoError(t, task.fail(t.Context(), fmt.Errorf("stopped")))
	require.Equal(t, []job.Type{job.Queued, job.Running, job.CancelRequested, job.Progress, job.Canceled}, typesOf(t, a, id))
}

func TestOneLeaseTwoReplicas(t *testing.T) {
	s := unpurged{newShared(t)}
	a, b := node(t, s), node(t, s)
	id := submitTo(t, a)
	ta := claimFrom(t, a, id)
	e := follow(t, b, id)
	tb := &Task{b: b, e: e, lease: ta.lease, cancel: func(error) {}, Job: ta.Job}
	var wg sync.WaitGroup
	for _, task := range []*Task{ta, tb} {
		wg.Go(func() {
			for range 200 {
				require.NoError(t, task.Append(t.Context(), progress()))
			}
		})
	}
	wg.Wait()
	require.NoError(t, tb.succeed(t.Context()))
	require.ErrorIs(t, ta.succeed(t.Context()), job.ErrLeaseLost)
	require.Len(t, typesOf(t, b, id), 403)
}

// Whoever claimed later owns the job: what the earlier holder says is neither
// stored nor seen, whatever it does not know yet.
func TestZombie(t *testing.T) {
	s := unpurged{newShared(t)}
	a, b := node(t, s), node(t, s)
	id := submitTo(t, a)
	zombie := claimFrom(t, a, id)
	e := follow(t, b, id)
	b.void(e) // b's janitor thinks that a is gone
	now := claimFrom(t, b, id)
	require.Equal(t, 2, now.Job.Attempt)
	require.ErrorIs(t, zombie.Append(t.Context(), progress()), job.ErrLeaseLost)
	require.ErrorIs(t, zombie.succeed(t.Context()), job.ErrLeaseLost)
	<-zombie.ctx.Done()
	require.NoError(t, now.succeed(t.Context()))
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Queued, job.Running, job.Succeeded}, typesOf(t, b, id))
}

// Two nodes, answers lost and refusals made up, cancels from both: every job is
// dense, ends once, and looks the same from everywhere.
func TestFaults(t *testing.T) {
	s := unpurged{newShared(t)}
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(1, 2))
	chance := func(p float64) bool { mu.Lock(); defer mu.Unlock(); return rnd.Float64() < p }
	flaky := func(next func(func(uint64, error)), done func(uint64, error)) {
		switch {
		case chance(0.1): // stored, answer lost, sent again
			next(func(uint64, error) { next(done) })
		case chance(0.05): // delayed
			time.AfterFunc(time.Duration(rand.IntN(int(5*time.Millisecond))), func() { next(done) })
		default:
			next(done)
		}
	}
	nodes := []*Broker{node(t, &hook{s, flaky}), node(t, &hook{s, flaky})}
	var wg sync.WaitGroup
	var ids []job.ID
	for i := range 300 {
		home, away := nodes[i%2], nodes[1-i%2]
		id := submitTo(t, home)
		ids = append(ids, id)
		wg.Go(func() {
			task, err := home.claim(t.Context(), id, "")
			if err != nil {
				return // canceled before
			}
			defer task.end()
			for range 5 {
				if err := task.Append(t.Context(), progress()); err != nil {
					require.ErrorIs(t, err, job.ErrLeaseLost)
				}
			}
			if err := task.succeed(t.Context()); err != nil {
				require.ErrorIs(t, err, job.ErrLeaseLost)
			}
		})
		if chance(0.3) {
			wg.Go(func() {
				away.mu.Lock()
				away.entry(testKind, id, "")
				away.mu.Unlock()
				_, _ = away.Cancel(t.Context(), id, "", "")
			})
		}
	}
	wg.Wait()
	for _, id := range ids {
		require.Eventually(t, func() bool { // what is at home at the other is known here once it is archived
			_, err := nodes[0].History(t.Context(), id, job.Cursor{}, 1)
			return err == nil
		}, timeToWait, tick)
		types := typesOf(t, nodes[0], id)
		require.Equal(t, job.Queued, types[0])
		for i, typ := range types {
			require.Equal(t, i == len(types)-1, typ.Terminal(), "%s: %v", id, types)
		}
	}
}

const (
	// timeToWait is how long a test waits for what must come. It is no measure of speed: only a
	// test that fails ever waits so long.
	timeToWait = time.Minute
	tick       = time.Millisecond
)

// A job that cannot be archived holds up no other.
func TestArchiveGoesOn(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	bad := claimFrom(t, b, submitTo(t, b))
	require.NoError(t, bad.Append(t.Context(), output(strings.Repeat("x", 2*holdJob)))) // not held in memory
	m.mu.Lock()
	m.log[len(m.log)-1].data = []byte("damaged")
	m.mu.Unlock()
	require.NoError(t, bad.succeed(t.Context()))
	for range 5 {
		id := submitTo(t, b)
		require.NoError(t, claimFrom(t, b, id).succeed(t.Context()))
		require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	}
	require.False(t, b.Archived(bad.Job.ID), "what is damaged stays where it is")
}

// A job whose input is found damaged when it is its turn is taken out of the queue, and
// says so.
func TestClaimOfADamagedJob(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	id := job.NewID()
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: noise(2 * holdJob)}) // not held in memory
	require.NoError(t, err)
	m.mu.Lock()
	m.log[len(m.log)-1].data = []byte("damaged")
	m.mu.Unlock()
	taken, ok := b.queue.TryTake(testKind)
	require.True(t, ok)
	require.Equal(t, id, taken)
	_, err = b.claim(t.Context(), id, "")
	require.ErrorIs(t, err, job.ErrDamaged)
	b.queue.Return(id, 0)
	_, ok = b.queue.TryTake(testKind)
	require.False(t, ok)
	_, err = b.Job(t.Context(), id)
	require.ErrorIs(t, err, job.ErrDamaged)
}

// A claim that the store does not take is not tried again at once.
func TestClaimDoesNotSpin(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	submitTo(t, b)
	var tries atomic.Int64
	h.onPublish = func(_ func(func(uint64, error)), done func(uint64, error)) {
		tries.Add(1)
		go done(0, errFull())
	}
	sub := b.Subscriber(0)
	_, err := sub.Subscribe(t.Context(), Topic(testKind))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return tries.Load() > 1 }, timeToWait, tick, "after a pause it is")
	require.Less(t, tries.Load(), int64(10))
	require.NoError(t, sub.Close())
}

// Who does not wait for a write any longer leaves nothing behind but what is on
// its way.
func TestWithdraw(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	task := claimFrom(t, b, submitTo(t, b))
	release := make(chan struct{})
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) {
		go func() { <-release; next(done) }()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { require.ErrorIs(t, task.Append(ctx, progress()), context.Canceled) })
	}
	pending := func() int { b.mu.Lock(); defer b.mu.Unlock(); return len(task.e.pending) }
	require.Eventually(t, func() bool { return pending() == 49 }, timeToWait, tick)
	cancel()
	wg.Wait()
	require.Zero(t, pending())
	close(release)
	require.Eventually(t, func() bool { return len(typesOf(t, b, task.Job.ID)) == 3 }, timeToWait, tick, "the one that was on its way is stored")
}

// What is small is stored, though it was to be joined with what is too large.
func TestTooLargeHarmsOnlyItself(t *testing.T) {
	h := &hook{store: newShared(t)}
	b := node(t, h)
	task := claimFrom(t, b, submitTo(t, b))
	release := make(chan struct{})
	h.onPublish = func(next func(func(uint64, error)), done func(uint64, error)) {
		go func() { <-release; next(done) }()
	}
	var wg sync.WaitGroup
	say := func(pending int, r job.Record, check func(error)) {
		wg.Go(func() { check(task.Append(t.Context(), r)) })
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return task.e.inFlight && len(task.e.pending) == pending
		}, timeToWait, tick)
	}
	stored := func(err error) { require.NoError(t, err) }
	say(0, progress(), stored)
	say(1, progress(), stored)
	say(2, output(string(make([]byte, maxPayload/6))), func(err error) { require.ErrorIs(t, err, job.ErrTooLarge) }) // six bytes for each of them
	say(3, progress(), stored)
	close(release)
	wg.Wait()
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Progress, job.Progress, job.Progress}, typesOf(t, b, task.Job.ID))
}

// A message of a live job that the store no longer has is damage, and not the same
// as a job that never was.
func TestMissingMessageIsTold(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	task := claimFrom(t, b, submitTo(t, b))
	require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", 2*holdJob)))) // not held in memory
	require.NoError(t, task.Append(t.Context(), progress()))
	m.mu.Lock()
	m.log = slices.Delete(m.log, 2, 3)
	m.mu.Unlock()
	page, err := b.History(t.Context(), task.Job.ID, job.Cursor{}, pageSize)
	require.NoError(t, err)
	require.Len(t, page, 2, "what is there is read")
	_, err = b.History(t.Context(), task.Job.ID, page[1].Cursor(), pageSize)
	require.ErrorIs(t, err, errMissing)
	require.NotErrorIs(t, err, job.ErrNotFound)
}

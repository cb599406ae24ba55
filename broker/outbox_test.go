package broker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// TestDeliveryAtEveryStep ends the process before and after each step from a job's submit to
// its delivery: whoever was told that the job is over, or that it is stored, has its end
// delivered at the last, and nobody is sent another event than that.
func TestDeliveryAtEveryStep(t *testing.T) { atEveryStep(t, deliveryCrashAt) }

func deliveryCrashAt(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: n, after: after}
	b := telling(t, c, func(*job.Delivery) bool { return true })
	id := job.NewID()
	_, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Webhook: &job.Webhook{URL: "https://a/"}})
	stored, delivered := err == nil, false
	if task, err := b.claim(t.Context(), id, ""); stored && err == nil {
		_ = task.succeed(t.Context())
		task.end()
		b.archiveOver()
		delivered = makeAll(t.Context(), b, id)
		b.purgeBelow(b.mark())
	}
	finished = c.end(b)
	if !stored {
		return finished
	}

	var mu sync.Mutex
	due := map[string]bool{}
	next := telling(t, s, func(d *job.Delivery) bool {
		mu.Lock()
		defer mu.Unlock()
		due[d.ID] = true
		return true
	})
	if j, err := next.Job(t.Context(), id); err == nil && !j.Status.Over() {
		task := claimFrom(t, next, id)
		require.NoError(t, task.succeed(t.Context()))
	}
	require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
	all, err := next.Deliveries(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, all, 1)
	if delivered {
		require.Equal(t, job.Delivered, all[0].State)
		require.Empty(t, due)
		return finished
	}
	events := allEvents(t, next, id)
	require.Equal(t, events[len(events)-1].Cursor().String(), all[0].ID)
	if all[0].State == job.DeliveryPending { // else it was made, and its maker was not told
		require.Contains(t, due, all[0].ID)
	}
	return finished
}

// makeAll makes the deliveries of a job, and reports whether they were told to be made.
func makeAll(ctx context.Context, b *Broker, id job.ID) bool {
	all, err := b.Deliveries(ctx, id)
	for i := range all {
		d := &all[i]
		d.State, d.SettledAt, d.Tries = job.Delivered, now(), 1
		if b.Tried(ctx, d) != nil {
			return false
		}
	}
	return err == nil && len(all) > 0
}

// One that cannot wait any more is given up at once, as a dead letter, and says why.
func TestCrowded(t *testing.T) {
	b := telling(t, newShared(t), func(*job.Delivery) bool { return false })
	d := &job.Delivery{ID: "1-1-1", Job: job.NewID(), State: job.DeliveryPending, KeptUntil: time.Now()}
	require.NoError(t, b.create(t.Context(), d))
	got, err := b.Delivery(t.Context(), d.Job, d.ID)
	require.NoError(t, err)
	require.Equal(t, job.DeliveryDead, got.State)
	require.Contains(t, got.Last.Error, "too many")
	_, err = b.Replay(t.Context(), d.Job, d.ID)
	require.ErrorIs(t, err, job.ErrQueueFull)
}

// What is stored of a delivery is what was stored, or it is told.
func TestDamagedDelivery(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	s := shared{m}
	b := node(t, s)
	d := &job.Delivery{ID: "1-1-1", Job: job.NewID(), State: job.DeliveryPending}
	require.NoError(t, b.create(t.Context(), d))
	name := duePrefix + deliveryName(d.Job, d.ID)
	m.mu.Lock()
	e := m.hooks[name]
	e.data = append([]byte(nil), e.data...)
	e.data[len(e.data)-3] ^= 1
	m.hooks[name] = e
	m.mu.Unlock()
	_, err := b.Deliveries(t.Context(), d.Job)
	require.ErrorIs(t, err, job.ErrDamaged)
	next := node(t, s)
	require.Equal(t, 1, next.damage)
	require.Contains(t, m.hooks, name, "it is kept")
}

// A delivery that is not there any more was erased with its job, or it is told that it is lost.
func TestLostDelivery(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b, logs := reopen(t, m, 0)
	d := &job.Delivery{ID: "1-1-1", Job: job.NewID(), State: job.DeliveryPending}
	_, err := b.Submit(t.Context(), d.Job, &job.Request{Kind: testKind, Webhook: &job.Webhook{URL: "https://a/"}})
	require.NoError(t, err)
	lost := func() int {
		_, err := b.Delivery(t.Context(), d.Job, d.ID)
		require.ErrorIs(t, err, job.ErrNotFound)
		return logs.FilterMessage("the store has lost a webhook delivery").Len()
	}
	require.NoError(t, b.create(t.Context(), d))
	require.NoError(t, m.dropDeliveries(t.Context(), duePrefix+deliveryName(d.Job, d.ID)))
	require.Equal(t, 1, lost())
	require.NoError(t, b.create(t.Context(), d))
	require.NoError(t, b.Erase(t.Context(), d.Job, ""))
	require.Eventually(t, func() bool {
		_, err := b.Delivery(t.Context(), d.Job, d.ID)
		return err != nil
	}, timeToWait, tick)
	require.Equal(t, 1, lost())
}

package brokertest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
)

// told are the deliveries that a broker has told of.
type told struct {
	mu  sync.Mutex
	all []job.Delivery
}

func (d *told) due(x *job.Delivery) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, *x)
	return true
}

func (d *told) of(id job.ID) (all []job.Delivery) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, x := range d.all {
		if x.Job == id {
			all = append(all, x)
		}
	}
	return all
}

// notified is a store whose brokers tell d of deliveries.
func notified(s Store, d *told) Store {
	open := s.Open
	s.Open = func(t *testing.T, opt broker.Options) *broker.Broker {
		opt.Due = d.due
		return open(t, opt)
	}
	return s
}

// submitHook stores a job with a webhook.
func (r *rig) submitHook(events ...job.Type) job.ID {
	r.t.Helper()
	id := job.NewID()
	_, err := r.Submit(r.t.Context(), id, &job.Request{Kind: kind, Owner: "somebody", Webhook: &job.Webhook{URL: "https://receiver.example/hook", Events: events}})
	require.NoError(r.t, err)
	return id
}

// The end of a job that has a webhook is put down as one delivery, with the very event that
// every reader sees; it is kept through restarts, and goes with the job if that is erased.
func testDeliveries(t *testing.T, s Store) {
	d := new(told)
	r := open(t, notified(s, d), nil)
	ctx := t.Context()
	next, stop := r.attempts()
	end := func(id job.ID) {
		task, m := next()
		require.Equal(t, id, task.Job.ID)
		m.Ack()
		r.awaitArchived(id)
	}
	plain := r.submit("nobody is told")
	end(plain)
	id := r.submitHook()
	end(id)
	failing := r.submitHook(job.Failed)
	end(failing)
	require.Empty(t, d.of(plain))
	require.Empty(t, d.of(failing))
	require.Len(t, d.of(id), 1)
	events := r.history(id, job.Cursor{})
	last := events[len(events)-1]
	first := d.of(id)[0]
	require.Equal(t, last.Cursor().String(), first.ID)
	require.Equal(t, job.DeliveryPending, first.State)
	require.Equal(t, "https://receiver.example/hook", first.URL)
	require.Equal(t, string(last.WebhookBody(nil)), string(first.Body))

	tried := first
	tried.Tries, tried.NextAt, tried.Last = 1, time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond), &job.Try{At: last.Time, Status: 500, Error: "500"}
	require.NoError(t, r.Tried(ctx, &tried))
	stop()
	if s.Durable {
		r.close()
		r = open(t, notified(s, d), nil)
		require.Equal(t, tried, d.of(id)[1])
		next, stop = r.attempts()
	}
	settled := tried
	settled.State, settled.NextAt, settled.SettledAt = job.DeliveryDead, time.Time{}, last.Time
	require.NoError(t, r.Tried(ctx, &settled))
	require.ErrorIs(t, r.Tried(ctx, &settled), job.ErrNotFound, "it is settled")
	all, err := r.Deliveries(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []job.Delivery{settled}, all)

	before := len(d.of(id))
	again, err := r.Replay(ctx, id, settled.ID)
	require.NoError(t, err)
	require.Equal(t, job.DeliveryPending, again.State)
	require.Zero(t, again.Tries)
	require.Len(t, d.of(id), before+1)
	all, err = r.Deliveries(ctx, id)
	require.NoError(t, err)
	require.Equal(t, []job.Delivery{again}, all)
	_, err = r.Replay(ctx, id, "1-1-1")
	require.ErrorIs(t, err, job.ErrNotFound)

	made := again
	made.State, made.NextAt, made.SettledAt = job.Delivered, time.Time{}, last.Time
	require.NoError(t, r.Tried(ctx, &made))
	all, err = r.Deliveries(ctx, id)
	require.NoError(t, err)
	require.Empty(t, all[0].Body, "its job has it")
	again, err = r.Replay(ctx, id, made.ID)
	require.NoError(t, err)
	require.Equal(t, string(first.Body), string(again.Body))

	require.NoError(t, r.Erase(ctx, id, "me"))
	require.ErrorIs(t, r.Tried(ctx, &again), job.ErrNotFound, "who was about to send it hears so")
	all, err = r.Deliveries(ctx, id)
	require.NoError(t, err)
	require.Empty(t, all)
	stop()
}

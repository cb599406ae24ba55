package brokertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// An erased job is gone, whatever it was doing, and so it is after a restart; its key is
// not. Nothing else goes with it.
func testErase(t *testing.T, s Store) {
	r := open(t, s, nil)
	ctx := t.Context()
	queued := r.submit("queued")
	next, stop := r.attempts()
	first, m := next()
	require.Equal(t, queued, first.Job.ID)
	m.Ack()
	over := queued
	r.awaitArchived(over)
	stays := r.submit("stays")
	_, m = next()
	m.Ack()
	r.awaitArchived(stays)
	keyed, _, err := r.SubmitOnce(ctx, "key", "f", &job.Request{Kind: kind, Owner: "somebody"})
	require.NoError(t, err)
	running, m := next()
	require.Equal(t, keyed.ID, running.Job.ID)
	waits := job.NewID()
	_, err = r.Submit(ctx, waits, &job.Request{Kind: kind, RunAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.ErrorIs(t, r.Erase(ctx, job.NewID(), "me"), job.ErrNotFound)
	gone := []job.ID{over, keyed.ID, waits}
	for _, id := range gone {
		require.NoError(t, r.Erase(ctx, id, "me"), id)
		require.ErrorIs(t, r.Erase(ctx, id, "me"), job.ErrNotFound)
	}
	<-m.Context().Done() // it is told to stop
	m.Nack()
	requireGone := func() {
		for _, id := range gone {
			_, err := r.Job(ctx, id)
			require.ErrorIs(t, err, job.ErrNotFound)
		}
		_, err = r.Job(ctx, stays)
		require.NoError(t, err)
		_, replayed, err := r.SubmitOnce(ctx, "key", "f", &job.Request{Kind: kind, Owner: "somebody"})
		require.ErrorIs(t, err, job.ErrNotFound)
		require.True(t, replayed)
	}
	requireGone()
	stop()
	if s.Durable {
		r.close()
		r = open(t, s, nil)
		requireGone()
	}
}

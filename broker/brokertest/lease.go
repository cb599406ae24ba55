package brokertest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
)

func pulled(k *job.Kind) { k.Lease = time.Minute }

// lease takes a job for a worker, and returns its task, which must be the next there is.
func (r *rig) lease(next func() (*broker.Task, func())) (*broker.Task, func()) {
	r.t.Helper()
	id, lease, err := r.Lease(r.t.Context(), "w-7", kind)
	require.NoError(r.t, err)
	task, nack := next()
	require.Equal(r.t, id, task.Job.ID)
	require.Equal(r.t, lease, task.Job.Lease)
	return task, nack
}

// nacking is attempts with what fails the attempt in place of its message.
func (r *rig) nacking() (next func() (*broker.Task, func()), stop func()) {
	take, stop := r.attempts()
	return func() (*broker.Task, func()) {
		r.t.Helper()
		task, m := take()
		return task, func() { m.Nack() }
	}, stop
}

func testLease(t *testing.T, s Store) {
	r := open(t, s, pulled)
	next, stop := r.nacking()
	defer stop()
	ended, end := context.WithCancel(t.Context())
	end()
	_, _, err := r.Lease(ended, "w-7", kind)
	require.ErrorIs(t, err, job.ErrNotFound, "there is nothing, and nobody waits")

	id := r.submit("")
	require.Equal(t, job.StatusQueued, r.await(id, func(job.Job) bool { return true }).Status, "nobody has asked for it")
	task, nack := r.lease(next)
	require.Contains(t, string(r.history(id, job.Cursor{})[1].Data), `"worker":"w-7"`)
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Checkpoint, Data: []byte(`"half"`)}))
	nack()
	j := r.await(id, func(j job.Job) bool { return j.Attempt == 2 })
	require.False(t, j.EndedBy(task.Job.Lease), "it was not the worker's word")

	task, nack = r.lease(next)
	require.Equal(t, `"half"`, string(task.Job.Checkpoint))
	task.Finish()
	nack()
	<-task.Ended()
	j = r.await(id, func(j job.Job) bool { return j.Attempt == 3 })
	require.True(t, j.EndedBy(task.Job.Lease))

	_, nack = r.lease(next)
	nack()
	j = r.await(id, over)
	require.Nil(t, j.Checkpoint)
}

// When the process ends its pull workers do not: their attempts are left as they are,
// and the next process goes on with them.
func testLeaseRestart(t *testing.T, s Store) {
	r := open(t, s, pulled)
	id, other := r.submit(""), r.submit("")
	next, stop := r.nacking()
	task, _ := r.lease(next)
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Output, Data: []byte(`{"index":0,"chunk":"x"}`)}))
	require.NoError(t, task.Append(t.Context(), job.Record{Type: job.Checkpoint, Data: []byte(`1`)}))
	_, err := r.Cancel(t.Context(), other, "me", "")
	require.NoError(t, err)
	r.Drain()
	_, _, err = r.Lease(t.Context(), "w-7", kind)
	require.ErrorIs(t, err, job.ErrDraining)
	stop()
	before := r.history(id, job.Cursor{})
	require.Equal(t, job.StatusRunning, r.await(id, func(job.Job) bool { return true }).Status)
	r.close()

	r = open(t, s, pulled)
	require.Equal(t, before, r.history(id, job.Cursor{}))
	take, stop := r.attempts()
	defer stop()
	again, m := take()
	require.Equal(t, task.Job.Lease, again.Job.Lease)
	require.Equal(t, task.Job.LeasedUntil, again.Job.LeasedUntil)
	require.Equal(t, `1`, string(again.Job.Checkpoint))
	var earlier []job.Type
	require.NoError(t, again.Earlier(t.Context(), func(rec *job.Record) { earlier = append(earlier, rec.Type) }))
	require.Equal(t, []job.Type{job.Output, job.Checkpoint}, earlier)
	require.NoError(t, again.Append(t.Context(), job.Record{Type: job.Log}))
	m.Ack()
	r.await(id, over)
	require.Equal(t, []job.Type{job.Queued, job.Running, job.Output, job.Checkpoint, job.Log, job.Succeeded}, r.types(id))
}

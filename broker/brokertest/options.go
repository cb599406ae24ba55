package brokertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// A job does not begin before its time, whatever happens meanwhile.
func testRunAt(t *testing.T, s Store) {
	r := open(t, s, nil)
	at := time.Now().Add(5 * time.Second).UTC().Truncate(time.Millisecond)
	id, late := job.NewID(), job.NewID()
	j, err := r.Submit(t.Context(), id, &job.Request{Kind: kind, RunAt: at})
	require.NoError(t, err)
	require.True(t, j.RunAt.Equal(at))
	j, err = r.Submit(t.Context(), late, &job.Request{Kind: kind, RunAt: time.Now().Add(-time.Hour)})
	require.NoError(t, err)
	require.Zero(t, j.RunAt)
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	require.Equal(t, late, task.Job.ID, "one whose time has passed does not wait")
	m.Ack()
	task, m = next()
	require.Equal(t, id, task.Job.ID)
	m.Ack()
	j = r.await(id, over)
	require.False(t, j.StartedAt.Before(at), "%s before %s", j.StartedAt, at)
	require.Contains(t, string(r.history(id, job.Cursor{})[0].Data), job.Time(at).String())
}

// What a job was asked for is there as long as the job.
func testRequest(t *testing.T, s Store) {
	r := open(t, s, nil)
	id := job.NewID()
	want := &job.Request{Kind: kind, Owner: "somebody", Input: []byte("in\x00put"), InputType: "text/x", Tags: []string{"a"}, Priority: job.High, StartTimeout: time.Hour}
	want.Call = &job.Call{Method: "POST", Target: "/legacy/x?\xff", Header: job.Header{"X-Raw": {"\xfc", "a\tb"}}}
	_, err := r.Submit(t.Context(), id, want)
	require.NoError(t, err)
	requireRequest := func() {
		got, err := r.Request(t.Context(), id)
		require.NoError(t, err)
		got.MaxAttempts, got.Timeout, got.Retention = 0, 0, 0 // the kind's
		require.Equal(t, want, got)
	}
	requireRequest()
	next, stop := r.attempts()
	defer stop()
	task, m := next()
	require.Equal(t, want.Call, task.Call)
	require.Nil(t, task.Job.Request.Call, "who only waits does not hold it")
	requireRequest()
	m.Ack()
	r.await(id, over)
	r.awaitArchived(id)
	requireRequest()
	_, err = r.Request(t.Context(), job.NewID())
	require.ErrorIs(t, err, job.ErrNotFound)
}

// What a job does not ask for is as its kind has it, and times count from when it may
// begin.
func testKindsTimes(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.StartTimeout, k.Deadline, k.Retention = time.Minute, time.Hour, 5*time.Hour })
	own := time.Now().Add(time.Minute).UTC().Truncate(time.Millisecond)
	at := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Millisecond)
	for _, tt := range []struct {
		ask      job.Request
		start    time.Duration
		deadline time.Time
	}{
		{job.Request{}, time.Minute, time.Now().Add(time.Hour)},
		{job.Request{RunAt: at}, time.Minute, at.Add(time.Hour)},
		{job.Request{StartTimeout: 2 * time.Minute, Deadline: own}, 2 * time.Minute, own},
	} {
		id := job.NewID()
		tt.ask.Kind = kind
		_, err := r.Submit(t.Context(), id, &tt.ask)
		require.NoError(t, err)
		got, err := r.Request(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, tt.start, got.StartTimeout)
		require.WithinDuration(t, tt.deadline, got.Deadline, 10*time.Second)
		require.Equal(t, 5*time.Hour, got.Retention)
	}
}

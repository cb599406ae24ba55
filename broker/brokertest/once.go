package brokertest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func testOnce(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.QueueLimit = 60 })
	request := func(owner string) *job.Request {
		return &job.Request{Kind: kind, Owner: owner, Input: []byte("x")}
	}
	var mu sync.Mutex
	ids := map[string]map[job.ID]bool{}
	var wg sync.WaitGroup
	for n := range 100 {
		key := strings.Repeat("k", 1+n%20)
		wg.Go(func() {
			j, _, err := r.SubmitOnce(t.Context(), key, "f", request("somebody"))
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			if ids[key] == nil {
				ids[key] = map[job.ID]bool{}
			}
			ids[key][j.ID] = true
		})
	}
	wg.Wait()
	require.Len(t, ids, 20)
	for key, of := range ids {
		require.Len(t, of, 1, key)
	}
	queued, _ := r.queue.Depth(kind)
	require.Equal(t, 20, queued)

	late := request("somebody")
	late.Deadline = time.Now()
	_, _, err := r.SubmitOnce(t.Context(), "late", "f", late)
	require.Error(t, err)
	_, replayed, err := r.SubmitOnce(t.Context(), "k", "f", late)
	require.NoError(t, err, "it was in time")
	require.True(t, replayed)

	first, replayed, err := r.SubmitOnce(t.Context(), "k", "f", request("somebody"))
	require.NoError(t, err)
	require.True(t, replayed)
	_, _, err = r.SubmitOnce(t.Context(), "k", "another", request("somebody"))
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, "idempotency-mismatch", p.Name())
	other, replayed, err := r.SubmitOnce(t.Context(), "k", "another", request("somebody else"))
	require.NoError(t, err, "keys are an owner's own")
	require.False(t, replayed)
	require.NotEqual(t, first.ID, other.ID)
}

// A key outlives its job, and remembers that it was.
func testOnceExpired(t *testing.T, s Store) {
	r := open(t, s, func(k *job.Kind) { k.Retention = time.Second })
	submit := func() (job.Job, bool, error) {
		return r.SubmitOnce(t.Context(), "key", "f", &job.Request{Kind: kind, Input: []byte("x")})
	}
	j, replayed, err := submit()
	require.NoError(t, err)
	require.False(t, replayed)
	next, stop := r.attempts()
	_, m := next()
	m.Ack()
	stop()
	require.Eventually(t, func() bool {
		again, replayed, err := submit()
		require.True(t, replayed)
		require.True(t, err != nil || again.ID == j.ID)
		return errors.Is(err, job.ErrNotFound)
	}, patience, 20*time.Millisecond, "gone")
}

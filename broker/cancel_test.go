package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// Whoever is faster, the caller who cancels or the worker who is done: there is one end.
func TestCancelRaces(t *testing.T) {
	b := node(t, newShared(t))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 100)
	ends := map[job.Status]int{}
	var mu sync.Mutex
	for n := range 10_000 {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			status := cancelRace(t, b, n)
			mu.Lock()
			defer mu.Unlock()
			ends[status]++
		})
	}
	wg.Wait()
	t.Log(ends)
	require.Len(t, ends, 3, "each came first now and then")
}

// cancelRace lets a cancel and the end of a job's work race and returns how it ended.
func cancelRace(t *testing.T, b *Broker, n int) job.Status {
	id := submitTo(t, b)
	task, err := b.claim(t.Context(), id, "")
	require.NoError(t, err)
	defer task.end()
	cancel := func() {
		_, err := b.Cancel(t.Context(), id, "", "")
		require.NoError(t, err)
	}
	end := func() {
		finish := task.succeed
		if n%2 == 0 {
			finish = func(ctx context.Context) error { return task.fail(ctx, job.Problemf("attempt-failed", "no")) }
		}
		err := finish(t.Context())
		require.True(t, err == nil || errors.Is(err, job.ErrLeaseLost), "%v", err)
	}
	racers := []func(){cancel, end}
	if n%4 < 2 {
		slices.Reverse(racers)
	}
	var race sync.WaitGroup
	for _, racer := range racers {
		race.Go(racer)
	}
	race.Wait()
	types := typesOf(t, b, id)
	for i, typ := range types {
		require.Equal(t, i == len(types)-1, typ.Terminal(), "%v", types)
	}
	j, err := b.Job(t.Context(), id)
	require.NoError(t, err)
	return j.Status
}

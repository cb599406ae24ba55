package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// crash is a store that dies at its n-th call, before or after the call was done.
type crash struct {
	store
	mu    sync.Mutex
	left  int
	after bool
}

// step reports whether the call is done, and whether its caller hears of it.
func (c *crash) step() (do, tell bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	return c.left > 0 || c.left == 0 && c.after, c.left > 0
}

// end ends the process, and reports whether all was done before the crash came. What the
// process had under way has come to its end then: a dead one does not write beside the next.
func (c *crash) end(b *Broker) (finished bool) {
	halt(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left > 0
}

func (c *crash) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	do, tell := c.step()
	switch {
	case tell:
		c.store.publish(subject, fence, data, done)
		return
	case do:
		c.store.publish(subject, fence, data, func(uint64, error) {})
	}
	go done(0, errClosed)
}

func (c *crash) put(ctx context.Context, name string, data []byte, ttl time.Duration) error {
	do, tell := c.step()
	if !do {
		return errClosed
	}
	if err := c.store.put(ctx, name, data, ttl); err != nil || tell {
		return err
	}
	return errClosed
}

func (c *crash) place(ctx context.Context, name string, data []byte, ttl time.Duration) (uint64, error) {
	return 0, c.put(ctx, name, data, ttl)
}

func (c *crash) setKey(ctx context.Context, name string, data []byte, ttl time.Duration, fresh bool) (uint64, error) {
	do, tell := c.step()
	if !do {
		return 0, errClosed
	}
	if place, err := c.store.setKey(ctx, name, data, ttl, fresh); err != nil || tell {
		return place, err
	}
	return 0, errClosed
}

func (c *crash) remove(ctx context.Context, prefix string) error {
	do, tell := c.step()
	if !do {
		return errClosed
	}
	if err := c.store.remove(ctx, prefix); err != nil || tell {
		return err
	}
	return errClosed
}

func (c *crash) purge(ctx context.Context, below uint64) error {
	do, tell := c.step()
	if !do {
		return errClosed
	}
	if err := c.store.purge(ctx, below); err != nil || tell {
		return err
	}
	return errClosed
}

// TestCrashAtEveryStep ends the process before and after each step of two jobs'
// lives, one of them with an archive in parts, and starts another on the store.
func TestCrashAtEveryStep(t *testing.T) { atEveryStep(t, crashAt) }

// atEveryStep has life crash before and after its first step, its second, and so on,
// until it says that all was done before the crash came.
func atEveryStep(t *testing.T, life func(t *testing.T, n int, after bool) (finished bool)) {
	for _, after := range []bool{false, true} {
		for n, finished := 1, false; !finished; n++ {
			t.Run(fmt.Sprintf("step %d after %v", n, after), func(t *testing.T) { finished = life(t, n, after) })
			require.Less(t, n, 100)
		}
	}
}

// crashAt reports whether all was done before the crash came.
func crashAt(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: n, after: after}
	b := node(t, c)
	large := output(strings.Repeat("x", partSize))
	acked := map[job.ID]job.Status{}
	for i := range 2 {
		id := job.NewID()
		if _, err := b.Submit(t.Context(), id, &job.Request{Kind: testKind, Input: []byte("in")}); err != nil {
			break
		}
		acked[id] = job.StatusQueued
		task, err := b.claim(t.Context(), id, "")
		if err != nil {
			break
		}
		for range i * 2 {
			_ = task.Append(t.Context(), large)
		}
		if task.succeed(t.Context()) == nil {
			acked[id] = job.StatusSucceeded
		}
		task.end()
		b.archiveOver()
	}
	b.archiveOver()
	b.purgeBelow(b.mark())
	finished = c.end(b)

	next := node(t, s)
	for id, status := range acked {
		j, err := next.Job(t.Context(), id)
		require.NoError(t, err)
		if status == job.StatusSucceeded {
			require.Equal(t, status, j.Status)
		}
		types := typesOf(t, next, id)
		for i, typ := range types {
			require.Equal(t, typ.Terminal(), i == len(types)-1 && j.Status.Over(), "%v", types)
		}
		if !j.Status.Over() {
			task := claimFrom(t, next, id)
			require.NoError(t, task.succeed(t.Context()))
		}
	}
	next.archiveOver()
	next.purgeBelow(next.mark())
	for id := range acked {
		require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
		types := typesOf(t, next, id)
		require.Equal(t, job.Succeeded, types[len(types)-1])
	}
	return finished
}

func (c *crash) setDelivery(ctx context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error) {
	do, tell := c.step()
	if !do {
		return 0, errClosed
	}
	if place, err := c.store.setDelivery(ctx, name, data, ttl, was); err != nil || tell {
		return place, err
	}
	return 0, errClosed
}

func (c *crash) dropDeliveries(ctx context.Context, pattern string) error {
	do, tell := c.step()
	if !do {
		return errClosed
	}
	if err := c.store.dropDeliveries(ctx, pattern); err != nil || tell {
		return err
	}
	return errClosed
}

package broker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// A store writes a delivery over what was seen of it, and over nothing else.
func TestOverWhatWasSeen(t *testing.T) {
	for name, s := range map[string]store{"memory": newShared(t), "embedded": openShelf(t, t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			set := func(name string, ttl time.Duration, was *seen) error {
				_, err := s.setDelivery(t.Context(), name, []byte("x"), ttl, was)
				return err
			}
			place := func(name string) uint64 {
				d, err := s.delivery(t.Context(), name)
				require.NoError(t, err)
				require.NotZero(t, d.position)
				return d.position
			}
			none := &seen{name: anyPrefix + "job.1"}
			require.NoError(t, set("due.job.2", 0, nil), "another one")
			require.NoError(t, set("due.other.1", 0, nil), "another one")
			require.NoError(t, set("due.job.1", 0, none))
			require.ErrorIs(t, set("due.job.1", 0, none), errRefused)
			was := &seen{"due.job.1", place("due.job.1")}
			require.NoError(t, set("due.job.1", 0, was))
			require.ErrorIs(t, set("due.job.1", 0, was), errRefused, "it was tried meanwhile")
			was.place = place("due.job.1")
			require.NoError(t, set("over.job.1", time.Hour, was))
			require.NoError(t, s.dropDeliveries(t.Context(), "due.job.1"))
			require.ErrorIs(t, set("over.job.1", time.Hour, was), errRefused, "it is settled")
			require.ErrorIs(t, set("due.job.1", 0, none), errRefused, "it is settled")
			require.NoError(t, s.dropDeliveries(t.Context(), "*.job.*"))
			require.ErrorIs(t, set("due.job.1", 0, was), errRefused, "it was erased")
			require.NoError(t, set("due.job.1", 0, none))
		})
	}
}

// counting is a store that counts what is done to deliveries.
type counting struct {
	store
	mu                   sync.Mutex
	reads, writes, drops int
}

func (s *counting) count(n *int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n++
}

func (s *counting) delivery(ctx context.Context, name string) (stored, error) {
	s.count(&s.reads)
	return s.store.delivery(ctx, name)
}

func (s *counting) setDelivery(ctx context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error) {
	s.count(&s.writes)
	return s.store.setDelivery(ctx, name, data, ttl, was)
}

func (s *counting) dropDeliveries(ctx context.Context, pattern string) error {
	s.count(&s.drops)
	return s.store.dropDeliveries(ctx, pattern)
}

// A delivery that goes well costs four steps on the store: put down, read, settled, removed.
func TestStepsOfADelivery(t *testing.T) {
	var e ear
	s := &counting{store: newShared(t)}
	b := telling(t, s, e.due)
	d := pending()
	require.NoError(t, b.create(t.Context(), d))
	got, err := b.Delivery(t.Context(), d.Job, d.ID)
	require.NoError(t, err)
	got.State = job.Delivered
	require.NoError(t, b.Tried(t.Context(), &got))
	require.Equal(t, []int{1, 2, 1}, []int{s.reads, s.writes, s.drops})
}

// What came of a try counts once, whoever has read the delivery when: of a job that was erased,
// and of a delivery that was replayed or settled, nothing is stored.
func TestTriedOverAnother(t *testing.T) {
	var e ear
	b := telling(t, newShared(t), e.due)
	for name, meanwhile := range map[string]func(d job.Delivery) error{
		"erased": func(d job.Delivery) error { return b.removeDeliveries(t.Context(), d.Job) },
		"replayed": func(d job.Delivery) error {
			d.Tries = 1
			if err := b.Tried(t.Context(), &d); err != nil {
				return err
			}
			_, err := b.Replay(t.Context(), d.Job, d.ID)
			return err
		},
		"settled": func(d job.Delivery) error {
			d.State = job.DeliveryDead
			return b.Tried(t.Context(), &d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := pending()
			require.NoError(t, b.create(t.Context(), d))
			got, err := b.Delivery(t.Context(), d.Job, d.ID)
			require.NoError(t, err)
			require.NoError(t, meanwhile(got))
			before, err := b.Deliveries(t.Context(), d.Job)
			require.NoError(t, err)
			for _, state := range []job.DeliveryState{job.DeliveryPending, job.Delivered} {
				late := got
				late.State, late.Tries = state, 7
				require.ErrorIs(t, b.Tried(t.Context(), &late), job.ErrNotFound)
			}
			after, err := b.Deliveries(t.Context(), d.Job)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

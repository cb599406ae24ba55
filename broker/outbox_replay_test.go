package broker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// deaf is a store that stores what it is given of deliveries, and whose next answers are lost.
type deaf struct {
	store
	mu   sync.Mutex
	left int
}

var errDeaf = job.Problemf("storage-unavailable", "the answer is lost")

func (s *deaf) lose(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = n
}

func (s *deaf) answer() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return nil
	}
	s.left--
	return errDeaf
}

func (s *deaf) setDelivery(ctx context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error) {
	place, err := s.store.setDelivery(ctx, name, data, ttl, was)
	return place, errors.Join(err, s.answer())
}

func (s *deaf) dropDeliveries(ctx context.Context, pattern string) error {
	return errors.Join(s.store.dropDeliveries(ctx, pattern), s.answer())
}

// ear is told of deliveries.
type ear struct {
	mu   sync.Mutex
	told []job.Delivery
	full bool
}

func (e *ear) due(d *job.Delivery) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.full {
		e.told = append(e.told, *d)
	}
	return !e.full
}

// heard returns what it was told of since it was asked last.
func (e *ear) heard() []job.Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	told := e.told
	e.told = nil
	return told
}

func pending() *job.Delivery {
	return &job.Delivery{ID: "1-1-1", Job: job.NewID(), State: job.DeliveryPending, URL: "https://a/", KeptUntil: time.Now(), Body: []byte(`{}`)}
}

// A replay counts from the moment that it is answered: a try that had begun before, and ends
// behind it, takes nothing of it away, be it a success.
func TestReplayBeatsTheTryUnderWay(t *testing.T) {
	for _, state := range []job.DeliveryState{job.DeliveryPending, job.Delivered, job.DeliveryDead} {
		t.Run(string(state), func(t *testing.T) {
			var e ear
			b := telling(t, newShared(t), e.due)
			d := pending()
			require.NoError(t, b.create(t.Context(), d))
			first := e.heard()
			require.Len(t, first, 1)
			tried := first[0]
			tried.State, tried.Tries, tried.NextAt = state, 10, now().Add(24*time.Hour)
			late := tried
			require.NoError(t, b.Tried(t.Context(), &tried))

			again, err := b.Replay(t.Context(), d.Job, d.ID)
			require.NoError(t, err)
			require.Equal(t, []job.Delivery{again}, e.heard())
			require.ErrorIs(t, b.Tried(t.Context(), &late), job.ErrNotFound)
			all, err := b.Deliveries(t.Context(), d.Job)
			require.NoError(t, err)
			require.Equal(t, []job.Delivery{again}, all)
			require.Equal(t, job.DeliveryPending, again.State)
			require.Zero(t, again.Tries)
		})
	}
}

// However often a delivery is replayed that is due already: it has one place in line.
func TestReplayOfWhatIsDue(t *testing.T) {
	var e ear
	b := telling(t, newShared(t), e.due)
	d := pending()
	require.NoError(t, b.create(t.Context(), d))
	for range 3 {
		_, err := b.Replay(t.Context(), d.Job, d.ID)
		require.NoError(t, err)
	}
	require.Len(t, e.heard(), 1)
}

// A delivery that was stored though its store did not say so is told of as soon as it is put
// down again, once.
func TestDeliveryWhoseAnswerIsLost(t *testing.T) {
	var e ear
	s := &deaf{store: newShared(t)}
	b := telling(t, s, e.due)
	d := pending()
	s.lose(2)
	require.Error(t, b.create(t.Context(), d))
	require.Error(t, b.create(t.Context(), d))
	require.Empty(t, e.heard())
	for range 3 {
		require.NoError(t, b.create(t.Context(), d))
	}
	require.Len(t, e.heard(), 1)
}

// So is one for which there is no place in line: it is a dead letter.
func TestCrowdedWhoseAnswerIsLost(t *testing.T) {
	e := ear{full: true}
	s := &deaf{store: newShared(t)}
	b := telling(t, s, e.due)
	d := pending()
	s.lose(2)
	require.Error(t, b.create(t.Context(), d))
	require.Error(t, b.create(t.Context(), d))
	require.NoError(t, b.create(t.Context(), d))
	got, err := b.Delivery(t.Context(), d.Job, d.ID)
	require.NoError(t, err)
	require.Equal(t, job.DeliveryDead, got.State)
}

// A replay whose answer is lost comes to be, whether or not its caller asks again; unless its
// job is erased. In a bubble: the broker asks again at its ticks, and none comes between two
// lines of the test.
func TestReplayWhoseAnswerIsLost(t *testing.T) {
	for name, answers := range map[string]int{"stored": 1, "the dead letter not removed": 2} {
		for _, asks := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var e ear
					s := &deaf{store: newShared(t)}
					b := telling(t, s, e.due)
					d := pending()
					require.NoError(t, b.create(t.Context(), d))
					dead := e.heard()[0]
					dead.State = job.DeliveryDead
					require.NoError(t, b.Tried(t.Context(), &dead))
					s.lose(answers)
					for range answers {
						_, err := b.Replay(t.Context(), d.Job, d.ID)
						require.ErrorIs(t, err, errDeaf)
					}
					if asks {
						_, err := b.Replay(t.Context(), d.Job, d.ID)
						require.NoError(t, err)
					} else {
						time.Sleep(2 * purgeTime)
					}
					require.False(t, b.doubted(d))
					told := e.heard()
					require.NotEmpty(t, told)
					got, err := b.Deliveries(t.Context(), d.Job)
					require.NoError(t, err)
					require.Equal(t, told[len(told)-1:], got, "all before it are of another round, and not made")
				})
			})
		}
	}
	t.Run("erased", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var e ear
			s := &deaf{store: newShared(t)}
			b := telling(t, s, e.due)
			d := pending()
			require.NoError(t, b.create(t.Context(), d))
			tried := e.heard()[0]
			tried.Tries = 1
			require.NoError(t, b.Tried(t.Context(), &tried))
			s.lose(1)
			_, err := b.Replay(t.Context(), d.Job, d.ID)
			require.Error(t, err)
			require.NoError(t, b.removeDeliveries(t.Context(), d.Job))
			b.replayDoubtful(t.Context())
			time.Sleep(2 * purgeTime)
			require.Empty(t, e.heard())
			require.False(t, b.doubted(d))
		})
	})
}

// What finds no place in line at a start is a dead letter at once, as it is later.
func TestCrowdedAtStart(t *testing.T) {
	s := newShared(t)
	var e ear
	b := telling(t, s, e.due)
	d := pending()
	require.NoError(t, b.create(t.Context(), d))
	e.full = true
	next := telling(t, s, e.due)
	got, err := next.Delivery(t.Context(), d.Job, d.ID)
	require.NoError(t, err)
	require.Equal(t, job.DeliveryDead, got.State)
	require.Contains(t, got.Last.Error, "too many")
}

// What came of a try mends a delivery that was damaged meanwhile.
func TestTriedMendsTheDamaged(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	d := pending()
	require.NoError(t, b.create(t.Context(), d))
	name := duePrefix + deliveryName(d.Job, d.ID)
	m.mu.Lock()
	m.hooks[name] = entryTTL{data: []byte("damaged")}
	m.mu.Unlock()
	d.Tries = 1
	require.NoError(t, b.Tried(t.Context(), d))
	got, err := b.Delivery(t.Context(), d.Job, d.ID)
	require.NoError(t, err)
	require.Equal(t, 1, got.Tries)
}

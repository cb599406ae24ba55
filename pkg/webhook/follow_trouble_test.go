package webhook

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// sick is a store that may not answer.
type sick struct {
	*world
	history, followed failure
}

// failure is an error that is there until it is set to nil.
type failure struct{ atomic.Pointer[error] }

func (f *failure) get() error {
	if err := f.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *sick) History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error) {
	if err := s.history.get(); err != nil {
		return nil, err
	}
	return s.world.History(ctx, id, after, size)
}

func (s *sick) SetFollowed(ctx context.Context, id job.ID, after job.Cursor) error {
	if err := s.followed.get(); err != nil {
		return err
	}
	return s.world.SetFollowed(ctx, id, after)
}

// following runs a Sender on a store, and has it follow a job with one event.
func following(w *world, store Store) (s *Sender, stop func()) {
	s = New(store, Options{Keys: w.keys, Log: zap.NewNop()})
	s.secure = w
	id := job.NewID()
	e := job.Event{Job: id, Place: job.Place{Position: 1, Epoch: 1}, Record: job.Record{Seq: 1, Type: job.Queued, Time: time.Now(), Data: []byte("{}")}}
	w.events[id] = []job.Event{e}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	j := job.Job{ID: id, Status: job.StatusQueued, Webhook: &job.Webhook{URL: "https://a/", Events: []job.Type{job.Queued}}}
	s.Fold(&job.Commit{Job: &j, Events: w.events[id]})
	return s, func() { cancel(); <-done }
}

// Events that cannot be read are read later, and what is no longer there is left.
func TestFollowedInTrouble(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		store := &sick{world: w}
		down := error(job.Problemf("storage-unavailable", "down"))
		store.history.Store(&down)
		_, stop := following(w, store)
		pass(time.Minute)
		require.Empty(t, w.tries("a"))
		store.history.Store(nil)
		pass(storeAgain)
		require.Len(t, w.tries("a"), 1)
		stop()
	})
	for _, err := range []error{job.ErrNotFound, job.ErrCursor, job.ErrDamaged} {
		inTime(t, func(t *testing.T, w *world) {
			store := &sick{world: w}
			store.history.Store(&err)
			s, stop := following(w, store)
			pass(time.Minute)
			store.history.Store(nil)
			pass(time.Hour)
			require.Empty(t, w.tries("a"))
			require.Zero(t, s.Waiting())
			stop()
		})
	}
}

// What was sent, though it could not be noted, is not sent again by this process.
func TestFollowedIsNotNoted(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		store := &sick{world: w}
		down := error(job.Problemf("storage-unavailable", "down"))
		store.followed.Store(&down)
		_, stop := following(w, store)
		pass(time.Hour)
		require.Len(t, w.tries("a"), 1)
		stop()
	})
}

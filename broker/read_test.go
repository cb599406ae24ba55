package broker

import (
	"context"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// looking is a store that counts what it is asked, and whose looks at several
// messages go through a function.
type looking struct {
	store
	looks, gets atomic.Int64
	spoil       func(found []stored) []stored
}

func (l *looking) several(ctx context.Context, positions []uint64) []stored {
	l.looks.Add(1)
	found := l.store.several(ctx, positions)
	if l.spoil != nil {
		return l.spoil(found)
	}
	return found
}

func (l *looking) get(ctx context.Context, position uint64) (stored, error) {
	l.gets.Add(1)
	return l.store.get(ctx, position)
}

// messages is how many outputs talk lets a job say, each a message of its own: more than
// are held in memory.
const messages = 400

// talk returns a job that has said much and runs yet.
func talk(t *testing.T, b *Broker) *Task {
	t.Helper()
	task := claimFrom(t, b, submitTo(t, b))
	for range messages {
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", 200))))
	}
	return task
}

// requireAll fails unless the events are the job's that talk made.
func requireAll(t *testing.T, events []job.Event) {
	t.Helper()
	require.Len(t, events, messages+2)
	for i, e := range events {
		require.EqualValues(t, i+1, e.Seq)
	}
}

// A page of a live job is one look at the store, however much there is before and
// behind it, and a replay takes as many looks as pages.
func TestLooksAreFew(t *testing.T) {
	s := &looking{store: newShared(t)}
	b := node(t, s)
	id := talk(t, b).Job.ID
	events := allEvents(t, b, id)
	requireAll(t, events)
	require.Less(t, s.looks.Load(), int64(messages/10))
	for _, e := range events[messages/2 : messages-50] {
		s.looks.Store(0)
		page, err := b.History(t.Context(), id, e.Cursor(), 16<<10)
		require.NoError(t, err)
		require.Equal(t, e.Seq+1, page[0].Seq)
		require.EqualValues(t, 1, s.looks.Load())
	}
	require.Zero(t, s.gets.Load(), "nothing was asked for alone")
}

// A page has about the size that was asked for, and at least one event.
func TestPageSize(t *testing.T) {
	b := node(t, newShared(t))
	task := talk(t, b)
	id := task.Job.ID
	size := func(events []job.Event) (n int) {
		for _, e := range events {
			n += len(e.Data)
		}
		return n
	}
	pages := func() {
		for _, after := range []job.Cursor{{}, allEvents(t, b, id)[messages/2].Cursor()} {
			before := 0
			for _, ask := range []int{1, 4 << 10, 16 << 10, 64 << 10} {
				page, err := b.History(t.Context(), id, after, ask)
				require.NoError(t, err)
				require.NotEmpty(t, page)
				require.Less(t, size(page[:len(page)-1]), ask, "no event is added to a page that is full")
				require.GreaterOrEqual(t, len(page), before, "a larger page has no fewer events")
				before = len(page)
			}
			require.Greater(t, before, 10)
		}
	}
	pages()
	require.NoError(t, task.succeed(t.Context()))
	require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	pages()
}

// What one look brings into memory is bounded, by bytes and by messages, also where
// messages are large.
func TestLooksAreBounded(t *testing.T) {
	s := &looking{store: newShared(t)}
	b := node(t, s)
	task := talk(t, b)
	for range 20 {
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", 5000))))
	}
	for _, ask := range []int{1, 16 << 10, 128 << 10, 100 << 20} {
		s.spoil = func(found []stored) []stored {
			bytes := 0
			for _, m := range found {
				bytes += len(m.data)
			}
			require.True(t, len(found) == 1 || bytes <= ask/lookShare, "%d bytes of %d messages", bytes, len(found))
			require.LessOrEqual(t, len(found), maxStretch)
			return found
		}
		var after job.Cursor
		for page := range pagesOf(t, b, task.Job.ID, ask) {
			require.Equal(t, after.Seq+1, page[0].Seq)
			after = page[len(page)-1].Cursor()
		}
		require.EqualValues(t, messages+2+20, after.Seq)
	}
}

// pagesOf reads a job from its beginning, size bytes at a time.
func pagesOf(t *testing.T, b *Broker, id job.ID, size int) iter.Seq[[]job.Event] {
	return func(yield func([]job.Event) bool) {
		for after := (job.Cursor{}); ; {
			page, err := b.History(t.Context(), id, after, size)
			require.NoError(t, err)
			if len(page) == 0 || !yield(page) {
				return
			}
			after = page[len(page)-1].Cursor()
		}
	}
}

// What a look does not find, or finds in the wrong place, is asked for alone.
func TestLooksAreNoVerdict(t *testing.T) {
	s := &looking{store: newShared(t)}
	b := node(t, s)
	id := talk(t, b).Job.ID
	for name, how := range map[string]func(found []stored) []stored{
		"nothing": func(found []stored) []stored { return make([]stored, len(found)) },
		"a hole": func(found []stored) []stored {
			found[len(found)/2] = stored{}
			return found
		},
		"another's message": func(found []stored) []stored {
			found[0].subject = subjectOf(testKind, job.NewID())
			return found
		},
		"others' places": func(found []stored) []stored {
			last := len(found) - 1
			found[0], found[last] = found[last], found[0]
			return found
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.gets.Store(0)
			s.spoil = how
			requireAll(t, allEvents(t, b, id))
			require.Positive(t, s.gets.Load())
		})
	}
}

// A message that neither a look nor the leader finds, and that was not moved, is told.
func TestHoleIsTold(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	id := talk(t, b).Job.ID
	events := allEvents(t, b, id)
	require.NoError(t, m.purge(t.Context(), events[messages/2].Place.Position+1))
	_, err := b.History(t.Context(), id, events[messages/2-1].Cursor(), pageSize)
	require.ErrorIs(t, err, job.ErrDamaged)
	require.ErrorIs(t, err, errMissing)
}

// What is moved, purged or archived between the look at the fold and the look at the
// store is read where it is now.
func TestReadWhileItGoes(t *testing.T) {
	for name, goes := range map[string]func(*testing.T, *Broker, *Task){
		"moved": func(t *testing.T, b *Broker, task *Task) {
			require.NoError(t, b.move(entryOf(b, task.Job.ID)))
			b.purgeBelow(b.mark())
			require.Positive(t, b.Purged())
		},
		"archived": func(t *testing.T, b *Broker, task *Task) {
			require.NoError(t, task.succeed(t.Context()))
			require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
			b.purgeBelow(b.mark())
			require.Positive(t, b.Purged())
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			t.Cleanup(m.close)
			s := &looking{store: shared{m}}
			b := node(t, s)
			task := talk(t, b)
			var gone atomic.Bool // what moves it reads it, too
			s.spoil = func(found []stored) []stored {
				if gone.CompareAndSwap(false, true) {
					goes(t, b, task)
					clear(found)
				}
				return found
			}
			events := allEvents(t, b, task.Job.ID)
			requireAll(t, events[:messages+2])
			require.Positive(t, s.gets.Load())
		})
	}
}

// A reader of a long job that goes on and is moved again and again, and purged behind,
// sees each event once.
func TestReplayOfAMovedJob(t *testing.T) {
	s, err := openEmbedded(t.Context(), Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	b := node(t, s)
	task := talk(t, b)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 20 {
			if b.move(entryOf(b, task.Job.ID)) != nil || task.Append(t.Context(), output("y"), output("z")) != nil {
				return
			}
			b.purgeBelow(b.mark())
		}
	}()
	for busy := true; busy; {
		select {
		case <-over:
			busy = false
		default:
		}
		events := allEvents(t, b, task.Job.ID)
		requireAll(t, events[:messages+2])
		for i, e := range events {
			require.EqualValues(t, i+1, e.Seq)
		}
		if !busy {
			require.Len(t, events, messages+2+40)
		}
	}
}

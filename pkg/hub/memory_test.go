package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

func TestMemoryIsBounded(t *testing.T) {
	l := newLog()
	h := New(l, Options{Memory: 100 << 10})
	var readers []tape.Reader
	for i := range 1000 {
		id := job.NewID()
		l.commit(h, id, job.Queued, job.Running, job.Progress)
		if i%10 == 0 {
			readers = append(readers, open(t, h, id, job.Cursor{}))
		}
		require.LessOrEqual(t, h.bytes, 100<<10+overhead*(len(readers)+1))
	}
	sum := 0
	for _, live := range h.jobs {
		sum += live.bytes
	}
	require.Equal(t, sum, h.bytes)
	for _, r := range readers {
		b, err := r.Next(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, b.Bytes)
	}
}

// Readers who only wait are not in the way of those whose tapes go: they cost no
// memory that could be freed, and no commit looks at them.
func TestIdleReadersAreNotInTheWay(t *testing.T) {
	l := newLog()
	h := New(l, Options{Memory: 20_000, Tape: 4000})
	for range 100 {
		id := job.NewID()
		l.commit(h, id, job.Queued)
		open(t, h, id, l.events[id][0].Cursor())
	}
	busy := func() {
		id := job.NewID()
		l.commit(h, id, job.Queued)
		l.commit(h, id, job.Running)
	}
	for range 300 {
		busy()
	}
	require.Equal(t, 100, h.Readers())
	for range 20 {
		busy()
		require.LessOrEqual(t, h.bytes, 20_000)
		require.Greater(t, h.bytes, 10_000, "what fits is kept")
		for e := h.used.Front(); e != nil; e = e.Next() {
			require.Zero(t, e.Value.(*live).readers)
		}
	}
}

package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

func TestMemoryIsBounded(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{Memory: 100 << 10})
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
	h := New(l, l, Options{Memory: 20_000, Tape: 4000})
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

// The tapes of jobs that are gone are dropped: at once, or with the last of their readers,
// who get all that there was.
func TestForget(t *testing.T) {
	for name, forget := range map[string]func(h *Hub, j *job.Job){
		"expired": func(h *Hub, j *job.Job) { h.Forget([]job.ID{job.NewID(), j.ID}) },
		"erased":  func(h *Hub, j *job.Job) { h.Fold(&job.Commit{Job: &job.Job{ID: j.ID, Erased: true}}) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog()
			h := New(l, l, Options{})
			read, unread, stays := job.NewID(), job.NewID(), job.NewID()
			for _, id := range []job.ID{read, unread, stays} {
				l.commit(h, id, job.Queued, job.Running, job.Succeeded)
			}
			one := h.jobs[stays].bytes
			r, second := open(t, h, read, job.Cursor{}), open(t, h, read, job.Cursor{})
			for _, id := range []job.ID{read, unread} {
				forget(h, l.jobs[id])
			}
			require.Equal(t, 2*one, h.bytes)
			require.Len(t, drain(t, r), 3)
			require.Zero(t, l.reads.Load(), "of the tape")
			r.Close()
			require.Equal(t, 2*one, h.bytes, "there is another reader")
			require.Len(t, drain(t, second), 3)
			second.Close()
			require.Equal(t, one, h.bytes)
			require.Len(t, h.jobs, 1)
			require.Equal(t, 1, h.used.Len())
		})
	}
}

package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// jump has the tail miss all that it has.
func (l *fakeLog) jump(h *Hub) {
	h.Jump(h.tail.head())
}

func openMany(t testing.TB, h *Hub, s job.Selector, after job.Cursor) tape.Capped {
	t.Helper()
	r, err := h.OpenMany(t.Context(), s, after)
	require.NoError(t, err)
	return r
}

// now is an idle channel of those who do not wait.
func now() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// told returns what a reader is told until there is nothing more.
func told(t require.TestingT, r tape.Reader) (ids []string, end bool) {
	for {
		b, err := r.Next(context.Background(), now())
		if errors.Is(err, io.EOF) {
			return ids, true
		}
		require.NoError(t, err)
		if waits(b) {
			return ids, false
		}
		ids = append(ids, names(b)...)
	}
}

// waits reports whether b says that there is nothing more yet. An empty one that has a place says
// that the log is still being read, as it may be on a machine that stood still meanwhile.
func waits(b tape.Block) bool { return len(b.Bytes) == 0 && b.Last == (job.Cursor{}) }

// names returns job and id of each event.
func names(b tape.Block) (ids []string) {
	for f := range b.Events() {
		var e job.Event
		_ = e.UnmarshalJSON(f.JSON)
		ids = append(ids, string(e.Job)+" "+f.ID)
	}
	return ids
}

// Whoever follows some of the jobs from anywhere, is cut anywhere and goes on from there, is
// told each of their events once, in the order of the log: be it on the tail or not.
func TestManyInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLog()
		h := New(l, l, Options{Tail: rapid.SampledFrom([]int{1, 300_000, 32 << 20}).Draw(t, "budget")})
		h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
		var ids []job.ID
		for i := range rapid.IntRange(1, 8).Draw(t, "jobs") {
			id := job.NewID()
			ids = append(ids, id)
			l.jobs[id] = &job.Job{ID: id, Kind: fmt.Sprint("k", i%3), Tags: []string{fmt.Sprint("t", i%2)}, Owner: "o"}
			l.commit(h, id, job.Queued)
			l.commit(h, id, job.Running)
		}
		s := job.Selector{Owner: "o"}
		switch rapid.IntRange(0, 3).Draw(t, "selector") {
		case 1:
			s.Kinds = []string{"k0", "k2"}
		case 2:
			s.Tags = []string{"t1"}
		case 3:
			s.Jobs = ids[:1+len(ids)/2]
		}
		start := h.tail.head()
		if rapid.Bool().Draw(t, "from further back") {
			start = l.events[ids[0]][0].Cursor()
		}
		r, err := h.OpenMany(context.Background(), s, start)
		require.NoError(t, err)
		var got []string
		read := func() {
			b, err := r.Next(context.Background(), now())
			if !errors.Is(err, io.EOF) {
				require.NoError(t, err)
			}
			got = append(got, names(b)...)
		}
		t.Repeat(map[string]func(*rapid.T){
			"commit": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "job")
				if !l.jobs[id].Status.Over() {
					l.commit(h, id, slices.Repeat([]job.Type{job.Progress}, rapid.IntRange(1, 3).Draw(t, "events"))...)
				}
			},
			"burst": func(t *rapid.T) {
				for i := range 700 {
					if id := ids[i%len(ids)]; !l.jobs[id].Status.Over() {
						l.commit(h, id, job.Progress)
					}
				}
			},
			"end": func(t *rapid.T) {
				if id := rapid.SampledFrom(ids).Draw(t, "job"); !l.jobs[id].Status.Over() {
					l.commit(h, id, job.Succeeded)
				}
			},
			"jump": func(*rapid.T) { l.jump(h) },
			"read": func(*rapid.T) { read() },
			"cut": func(t *rapid.T) {
				at := r.Cursor()
				r.Close()
				next, err := h.OpenMany(context.Background(), s, at)
				if errors.Is(err, io.EOF) {
					require.Equal(t, l.all(s, start), got, "there is no more")
					return // r says so, too
				}
				require.NoError(t, err)
				r = next
				r.Cap(rapid.IntRange(0, 5).Draw(t, "cap"))
			},
		})
		rest, end := told(t, r)
		got = append(got, rest...)
		require.Equal(t, l.all(s, start), got)
		over := len(s.Jobs) > 0
		for _, id := range s.Jobs {
			over = over && l.jobs[id].Status.Over()
		}
		require.Equal(t, over, end, "it ends when all that are named are over, and not before")
		r.Close()
		require.Zero(t, h.Readers())
	})
}

// A follower that waits is woken at once, then looks no more than once in a while, and is
// told when the server stops.
func TestManyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		h := New(l, l, Options{})
		h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
		r := openMany(t, h, job.Selector{}, job.Cursor{})
		defer r.Close()
		var got []string
		blocks := 0
		ended := make(chan error)
		go func() {
			for {
				b, err := r.Next(context.Background(), nil)
				if err != nil {
					ended <- err
					return
				}
				blocks++
				got = append(got, names(b)...)
			}
		}()
		synctest.Wait()
		id := job.NewID()
		time.Sleep(time.Minute)
		l.commit(h, id, job.Queued)
		synctest.Wait()
		require.Len(t, got, 1, "at once")
		l.commit(h, id, job.Running)
		time.Sleep(time.Millisecond / 2) // no commit comes in the moment of a look, which might see it, or not
		for range 100 {
			l.commit(h, id, job.Type("step"))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(lookEvery)
		synctest.Wait()
		require.Equal(t, l.all(job.Selector{}, job.Cursor{}), got)
		require.LessOrEqual(t, blocks, 3+int(100*time.Millisecond/lookEvery))
		h.Close()
		require.ErrorIs(t, <-ended, job.ErrDraining)
	})
}

// Cursors that name no place, or one too far back, are told.
func TestManyBadCursor(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	id := job.NewID()
	l.commit(h, id, job.Queued)
	for _, c := range []job.Cursor{
		{Seq: 1, Place: job.Place{Position: 1, Epoch: 2}},
		{Seq: 1, Place: job.Place{Position: 2, Epoch: 1}},
	} {
		_, err := h.OpenMany(t.Context(), job.Selector{}, c)
		require.ErrorIs(t, err, job.ErrCursor, c.String())
	}
	for range maxMerge {
		l.commit(nil, job.NewID(), job.Queued)
	}
	h.Jump(job.Cursor{Seq: 1, Place: job.Place{Position: l.position, Epoch: 1}})
	_, err := h.OpenMany(t.Context(), job.Selector{}, l.events[id][0].Cursor())
	require.ErrorIs(t, err, job.ErrCursor, "too much has changed since")
	r := openMany(t, h, job.Selector{Jobs: []job.ID{id}}, job.Cursor{Place: job.Place{Epoch: 1}})
	got, end := told(t, r)
	require.Equal(t, []string{string(id) + " 1-1-1"}, got, "of few jobs it has not")
	require.False(t, end)
	require.Zero(t, h.Readers()-1)
}

// Who follows a job that is erased, or damaged, is told so in its place, once, and its
// stream goes on, and ends.
func TestManyErased(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	a, b, c := job.NewID(), job.NewID(), job.NewID()
	for _, id := range []job.ID{a, b, c} {
		l.commit(h, id, job.Queued)
	}
	s := job.Selector{Jobs: []job.ID{a, b, c}}
	start := job.Cursor{Place: job.Place{Epoch: 1}}
	live := openMany(t, h, s, start)
	l.commit(h, b, job.Canceled)
	gone := *l.jobs[b]
	gone.Erased = true
	h.Fold(&job.Commit{Job: &gone}) // as of one that is over
	l.commit(h, c, job.Canceled)
	got, end := told(t, live)
	require.False(t, end, "one lives")
	require.Equal(t, []string{string(a) + " 1-1-1", string(c) + " 1-3-1", string(b) + " 3-4-1", string(c) + " 2-5-1"}, got)
	live.Close()
	live = openMany(t, h, s, job.Cursor{Seq: 3, Place: job.Place{Position: 4, Epoch: 1}})
	got, _ = told(t, live)
	require.Equal(t, []string{string(c) + " 2-5-1"}, got, "who was told that it is erased is not told again")

	l.jump(h)
	delete(l.events, b)
	delete(l.jobs, b)
	l.fails = map[job.ID]error{c: job.ErrDamaged}
	cold := openMany(t, h, s, start)
	got, end = told(t, cold)
	require.False(t, end)
	require.ElementsMatch(t, []string{string(a) + " 1-1-1", string(c) + " 0-0-1"}, got)
	l.commit(h, a, job.Canceled)
	for name, r := range map[string]tape.Reader{"live": live, "cold": cold} {
		got, end = told(t, r)
		require.Equal(t, []string{string(a) + " 2-6-1"}, got, name)
		require.True(t, end)
		r.Close()
	}
}

// Of a job that is erased while it lives nothing more is shown, not even what the tail had of it,
// but that it is: once.
func TestManyErasedAlive(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
	id := job.NewID()
	l.commit(h, id, job.Queued, job.Running)
	named := openMany(t, h, job.Selector{Jobs: []job.ID{id}}, job.Cursor{})
	defer named.Close()
	j := l.jobs[id]
	j.Erased = true
	cursor := j.Cursor
	cursor.Position, l.position, j.Cursor = 2, 2, job.Cursor{Seq: 3, Place: job.Place{Position: 2, Epoch: 1}}
	h.Follow(&job.Commit{Before: cursor, Job: j, Erases: true, Events: []job.Event{
		{Job: id, Place: j.Cursor.Place, Record: job.Record{Seq: 3, Type: job.CancelRequested, Attempt: 1, Data: []byte(`{"reason":"erased"}`)}},
	}})
	l.commit(h, id, job.Canceled)
	all := openMany(t, h, job.Selector{}, job.Cursor{Place: job.Place{Epoch: 1}})
	defer all.Close()
	got, _ := told(t, all)
	require.Equal(t, []string{string(id) + " 3-2-1"}, got)
	got, end := told(t, named)
	require.Equal(t, []string{string(id) + " 3-2-1"}, got)
	require.True(t, end)
}

// What the tail hides of erased jobs is forgotten with it.
func TestManyErasedForgotten(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{Tail: 1})
	for range 3 * segmentSize {
		h.Fold(&job.Commit{Job: &job.Job{ID: job.NewID(), Erased: true}})
	}
	kept := 0
	h.tail.erased.Range(func(any, any) bool { kept++; return true })
	require.LessOrEqual(t, kept, segmentSize)
}

// A stream that names a job ends also if that was erased, or has expired, while its reader had
// been overtaken, and it is told.
func TestManyGoneMeanwhile(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
	a, b := job.NewID(), job.NewID()
	l.commit(h, a, job.Queued)
	l.commit(h, b, job.Queued)
	r := openMany(t, h, job.Selector{Jobs: []job.ID{a, b}}, job.Cursor{})
	defer r.Close()
	l.commit(h, a, job.Canceled)
	delete(l.events, b)
	delete(l.jobs, b)
	l.jump(h)
	got, end := told(t, r)
	require.ElementsMatch(t, []string{string(a) + " 2-3-1", string(b) + " 1-2-1"}, got)
	require.True(t, end)
}

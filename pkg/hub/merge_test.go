package hub

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// largeLog is a log of 20 jobs with 30 large events each, of which a hub's tail has none.
func largeLog() (*fakeLog, *Hub) {
	l := newLog()
	l.page = 50
	h := New(l, l, Options{})
	h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
	var ids []job.ID
	for range 20 {
		ids = append(ids, job.NewID())
		l.commit(nil, ids[len(ids)-1], job.Queued, job.Running)
	}
	big := bytes.Repeat([]byte{'x'}, 40<<10)
	for n := range 30 {
		for _, id := range ids {
			l.commit(nil, id, job.Type(fmt.Sprint("step", n)))
			events := l.events[id]
			events[len(events)-1].Data = append(append([]byte{'"'}, big...), '"')
		}
	}
	h.Jump(l.jobs[ids[len(ids)-1]].Cursor)
	return l, h
}

// The more readers there are that read ahead, the less has each; all of them are told all.
func TestManyMergesShareTheirRoom(t *testing.T) {
	l, h := largeLog()
	l.page = 10
	var last *follower
	held := 0
	for range 400 { // slow ones: each has read once
		last = openMany(t, h, job.Selector{}, job.Cursor{Place: job.Place{Epoch: 1}}).(*follower)
		defer last.Close()
		_, err := last.Next(t.Context(), now())
		require.NoError(t, err)
		held += last.merge.held
	}
	require.Less(t, held, 4*mergesRoom, "those that came first keep theirs, of which each has room for less")
	got := l.all(job.Selector{}, job.Cursor{})
	var ids []string
	for {
		b, err := last.Next(t.Context(), now())
		require.NoError(t, err)
		if waits(b) {
			break
		}
		ids = append(ids, names(b)...)
	}
	require.Equal(t, got[len(got)-len(ids):], ids)
	require.Equal(t, 399, h.merging)
}

// What is read ahead of many jobs is bounded, and read again.
func TestManyMergeIsBounded(t *testing.T) {
	l, h := largeLog()
	r := openMany(t, h, job.Selector{}, job.Cursor{Place: job.Place{Epoch: 1}}).(*follower)
	defer r.Close()
	var got []string
	for {
		b, err := r.Next(t.Context(), now())
		require.NoError(t, err)
		if waits(b) {
			break
		}
		if r.merge != nil {
			require.LessOrEqual(t, r.merge.held, mergeRoom+50*(40<<10+itemSize+2))
		}
		got = append(got, names(b)...)
	}
	require.Equal(t, l.all(job.Selector{}, job.Cursor{}), got)
	require.Zero(t, h.merging)
}

// Who reads many jobs page by page, each by a reader of its own, has no job looked at anew for
// each page.
func TestManyPagesTakeUpWhatWasLeft(t *testing.T) {
	const jobs, each = 100, 12
	l := newLog()
	l.page = each
	h := New(l, l, Options{})
	h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
	var ids []job.ID
	for range jobs {
		ids = append(ids, job.NewID())
		l.commit(nil, ids[len(ids)-1], job.Queued, job.Running)
	}
	for range each - 2 {
		for _, id := range ids {
			l.commit(nil, id, job.Progress)
		}
	}
	h.Jump(l.jobs[ids[jobs-1]].Cursor)
	var got []string
	at := job.Cursor{Place: job.Place{Epoch: 1}}
	for len(got) < jobs*each {
		r := openMany(t, h, job.Selector{}, at)
		r.Cap(7)
		b, err := r.Next(t.Context(), now())
		require.NoError(t, err)
		page := names(b)
		require.False(t, waits(b), "there is more")
		require.LessOrEqual(t, len(page), 7)
		got, at = append(got, page...), b.Last
		r.Close()
	}
	require.Equal(t, l.all(job.Selector{}, job.Cursor{}), got)
	require.LessOrEqual(t, l.reads.Load(), int64(2*jobs), "once, and once more to see that there is no more")
}

// What is left waits for a while, only so much of it, and for nobody else.
func TestManyParkedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		h := New(l, l, Options{})
		h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
		id, other := job.NewID(), job.NewID()
		for _, id := range []job.ID{id, other} {
			l.commit(nil, id, job.Queued, job.Running)
		}
		h.Jump(l.jobs[other].Cursor)
		begin := job.Cursor{Place: job.Place{Epoch: 1}}
		park := func(s job.Selector) {
			r := openMany(t, h, s, begin)
			r.Cap(1)
			_, err := r.Next(t.Context(), now())
			require.NoError(t, err)
			r.Close()
		}
		park(job.Selector{})
		at := l.events[id][0].Cursor()
		require.Len(t, h.parked, 1)
		before := l.reads.Load()
		mine := openMany(t, h, job.Selector{Owner: "me"}, at)
		require.Len(t, h.parked, 1, "another asks for something else")
		mine.Close()
		require.Len(t, h.parked, 2)
		same := openMany(t, h, job.Selector{}, at).(*follower)
		require.Len(t, h.parked, 1)
		require.Equal(t, before, l.reads.Load())
		same.Close()
		for n := range 2 * maxParked {
			park(job.Selector{Kinds: []string{"k", fmt.Sprint(n)}})
		}
		require.Len(t, h.parked, maxParked)
		time.Sleep(parkedTime / 2)
		openMany(t, h, job.Selector{}, at).Close()
		time.Sleep(parkedTime/2 + 2*time.Second)
		h.mu.Lock()
		require.Len(t, h.parked, 1, "the others have waited too long, and nobody has to come for that")
		h.mu.Unlock()
		time.Sleep(2 * parkedTime)
		h.mu.Lock()
		defer h.mu.Unlock()
		require.Empty(t, h.parked)
	})
}

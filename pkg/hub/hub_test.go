package hub

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLog is a log in memory that tells a hub of its commits.
type fakeLog struct {
	mu       sync.Mutex
	jobs     map[job.ID]*job.Job
	events   map[job.ID][]job.Event
	position uint64
	reads    atomic.Int64
	gate     chan struct{}    // if set, History waits for it
	page     int              // events a History returns at most
	sizes    []int            // of the pages it was asked for
	fails    map[job.ID]error // of Behind
}

func newLog() *fakeLog {
	return &fakeLog{jobs: map[job.ID]*job.Job{}, events: map[job.ID][]job.Event{}, page: 3}
}

// commit stores records as one message; h may be nil, as before a restart.
func (l *fakeLog) commit(h *Hub, id job.ID, types ...job.Type) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[id]
	if j == nil {
		j = &job.Job{ID: id, Kind: "k"}
		l.jobs[id] = j
	}
	l.position++
	c := &job.Commit{Was: j.Status, Before: j.Cursor, Job: j}
	at := job.Place{Position: l.position, Epoch: 1}
	for _, typ := range types {
		r := job.Record{Seq: j.Cursor.Seq + 1, Type: typ, Attempt: 1, Data: []byte(fmt.Sprintf(`{"n":%d}`, j.Cursor.Seq+1))}
		if err := j.Fold(&r, at); err != nil {
			panic(err)
		}
		c.Events = append(c.Events, job.Event{Record: r, Job: id, Place: at})
	}
	l.events[id] = append(l.events[id], c.Events...)
	if h != nil {
		h.Fold(c)
		h.Follow(c)
	}
}

func (l *fakeLog) History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error) {
	l.reads.Add(1)
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sizes = append(l.sizes, size)
	events := l.events[id]
	switch {
	case events == nil:
		return nil, job.ErrNotFound
	case after.Seq > uint64(len(events)), after.Seq > 0 && events[after.Seq-1].Cursor() != after:
		return nil, job.ErrCursor
	}
	rest := events[after.Seq:]
	return append([]job.Event(nil), rest[:min(len(rest), l.page)]...), nil
}

func (l *fakeLog) Job(_ context.Context, id job.ID) (job.Job, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.jobs[id]; j != nil {
		return *j, nil
	}
	return job.Job{}, job.ErrNotFound
}

// drain reads until io.EOF and returns the ids; it fails on a hole.
func drain(t *testing.T, r tape.Reader) (ids []string) {
	t.Helper()
	seq := r.Cursor().Seq
	for {
		b, err := r.Next(t.Context(), nil)
		if err == io.EOF {
			return ids
		}
		require.NoError(t, err)
		for f := range b.Events() {
			seq++
			c, err := job.ParseCursor(f.ID)
			require.NoError(t, err)
			require.Equal(t, seq, c.Seq, "a hole, or an event twice")
			ids = append(ids, f.ID)
		}
		require.Equal(t, r.Cursor(), b.Last)
	}
}

func open(t *testing.T, h *Hub, id job.ID, after job.Cursor) tape.Reader {
	t.Helper()
	r, err := h.Open(t.Context(), id, after)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func TestReadersBeforeDuringAfter(t *testing.T) {
	for _, budget := range []int{1, 1000, 1 << 20} { // nothing kept, some kept, all kept
		for _, memory := range []int{1, 1 << 20} {
			t.Run(fmt.Sprintf("tape %d memory %d", budget, memory), func(t *testing.T) {
				l := newLog()
				h := New(l, l, Options{Tape: budget, Memory: memory})
				id := job.NewID()
				l.commit(h, id, job.Queued)
				var wg sync.WaitGroup
				var got [30][]string
				reader := func(i int) {
					r := open(t, h, id, job.Cursor{})
					wg.Go(func() { got[i] = drain(t, r) })
				}
				for i := range 10 {
					reader(i)
				}
				l.commit(h, id, job.Running)
				for i := range 10 {
					for range 20 {
						l.commit(h, id, job.Progress, "custom")
					}
					reader(10 + i)
				}
				l.commit(h, id, job.Output, job.Succeeded)
				for i := range 10 {
					reader(20 + i)
				}
				wg.Wait()
				require.Len(t, got[0], 404)
				for i := range got {
					require.Equal(t, got[0], got[i])
				}
			})
		}
	}
}

// After a restart the hub knows nothing: who reads an old job reads the log, and
// what comes then is seen at once, whoever waits where.
func TestAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		id := job.NewID()
		l.commit(nil, id, job.Queued)
		l.commit(nil, id, job.Running)
		for range 10 {
			l.commit(nil, id, job.Progress)
		}
		h := New(l, l, Options{})
		var wg sync.WaitGroup
		for seq := range 13 {
			var after job.Cursor
			if seq > 0 {
				after = l.events[id][seq-1].Cursor()
			}
			r := open(t, h, id, after)
			wg.Go(func() { require.Len(t, drain(t, r), 14-seq) })
		}
		synctest.Wait() // all have read what there is
		l.commit(h, id, job.Progress)
		synctest.Wait()
		l.commit(h, id, job.Succeeded)
		wg.Wait()
	})
}

func TestFinishedJobIsReadOnce(t *testing.T) {
	l := newLog()
	l.page = 1000
	id := job.NewID()
	l.commit(nil, id, job.Queued, job.Running, job.Progress, job.Succeeded)
	l.gate = make(chan struct{})
	h := New(l, l, Options{})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			r, err := h.Open(t.Context(), id, job.Cursor{})
			require.NoError(t, err)
			defer r.Close()
			require.Len(t, drain(t, r), 4)
		})
	}
	close(l.gate)
	wg.Wait()
	require.Less(t, l.reads.Load(), int64(100), "readers who ask the same share one read")
}

// badLog panics when it reads of one job.
type badLog struct {
	*fakeLog
	bad job.ID
}

func (l badLog) History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error) {
	if id == l.bad {
		panic("cannot be decoded")
	}
	return l.fakeLog.History(ctx, id, after, size)
}

// A log that panics over one job fails who reads that, and nobody else.
func TestPanicOfTheLog(t *testing.T) {
	l := badLog{newLog(), job.NewID()}
	h := New(l, l, Options{Readings: 1})
	good := job.NewID()
	l.commit(nil, good, job.Queued, job.Running, job.Succeeded)
	for range 3 { // more than there are places to read in
		_, err := h.Open(t.Context(), l.bad, job.Cursor{})
		require.ErrorContains(t, err, "panic: cannot be decoded")
		require.ErrorContains(t, err, "hub_test.go", "the stack")
		require.NotErrorAs(t, err, new(*job.Problem), "it is logged, not shown")
	}
	require.Len(t, drain(t, open(t, h, good, job.Cursor{})), 3)
	require.Len(t, h.jobs, 1)
}

// Whoever comes back reads little before the first event, and more and more if it
// reads on.
func TestPagesGrow(t *testing.T) {
	l := newLog()
	id := job.NewID()
	l.commit(nil, id, job.Queued)
	l.commit(nil, id, job.Running)
	for range 20 {
		l.commit(nil, id, job.Progress)
	}
	l.commit(nil, id, job.Succeeded)
	h := New(l, l, Options{Tape: 1, Memory: 1}) // all is read from the log
	for range 2 {                               // the second reader begins as small as the first
		l.sizes = nil
		drain(t, open(t, h, id, job.Cursor{}))
		require.Equal(t, []int{firstPage, 4 * firstPage, maxPage, maxPage}, l.sizes[:4])
		require.Equal(t, maxPage, l.sizes[len(l.sizes)-1])
	}
	require.LessOrEqual(t, firstPage, 16<<10)
}

func TestCursors(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	a, b := job.NewID(), job.NewID()
	l.commit(h, a, job.Queued, job.Running)
	l.commit(h, b, job.Queued, job.Running)
	l.commit(h, a, job.Progress, job.Succeeded)
	last := l.events[a][3].Cursor()
	r := open(t, h, a, last)
	_, err := r.Next(t.Context(), nil)
	require.ErrorIs(t, err, io.EOF)
	for _, bad := range []job.Cursor{
		l.events[b][1].Cursor(),
		{Seq: 5, Place: last.Place},
		{Seq: 4, Place: job.Place{Position: last.Position, Epoch: 2}},
		{Seq: 2, Place: job.Place{Position: 99, Epoch: 1}},
	} {
		_, err := h.Open(t.Context(), a, bad)
		require.ErrorIs(t, err, job.ErrCursor, "%v", bad)
	}
	_, err = h.Open(t.Context(), job.NewID(), job.Cursor{})
	require.ErrorIs(t, err, job.ErrNotFound)
	require.Equal(t, 1, h.Readers())
	require.Len(t, h.jobs, 2, "a job that does not exist leaves nothing behind")
}

func TestIdleDrainAndLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		h := New(l, l, Options{})
		id := job.NewID()
		l.commit(h, id, job.Queued)
		r := open(t, h, id, l.events[id][0].Cursor())
		idle := time.NewTimer(15 * time.Second)
		start := time.Now()
		b, err := r.Next(t.Context(), idle.C)
		require.NoError(t, err)
		require.Empty(t, b.Bytes)
		require.Equal(t, 15*time.Second, time.Since(start))

		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		_, err = r.Next(ctx, nil)
		require.ErrorIs(t, err, context.Canceled)

		go func() { time.Sleep(time.Second); l.commit(h, id, job.Running); h.Close() }()
		b, err = r.Next(t.Context(), nil)
		require.NoError(t, err)
		require.EqualValues(t, 2, b.Last.Seq, "what there is comes before the goodbye")
		_, err = r.Next(t.Context(), nil)
		require.ErrorIs(t, err, job.ErrDraining)
	})
}

// A stop does not wait for readers who are far behind: each gets a piece and comes
// back for the rest. A job that is over and read is over all the same.
func TestDrainOfLongJobs(t *testing.T) {
	l := newLog()
	id := job.NewID()
	l.commit(nil, id, job.Queued, job.Running)
	for range 20 {
		l.commit(nil, id, job.Progress)
	}
	l.commit(nil, id, job.Succeeded)
	h := New(l, l, Options{})
	before := open(t, h, id, job.Cursor{})
	_, err := before.Next(t.Context(), nil)
	require.NoError(t, err)
	h.Close()
	after := open(t, h, id, job.Cursor{})
	for _, r := range []tape.Reader{before, after} {
		b, err := r.Next(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, b.Bytes)
		_, err = r.Next(t.Context(), nil)
		require.ErrorIs(t, err, job.ErrDraining)
	}
	last := open(t, h, id, l.events[id][21].Cursor())
	b, err := last.Next(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, b.End)
	_, err = last.Next(t.Context(), nil)
	require.ErrorIs(t, err, io.EOF)
}

// A reader that never reads holds up nobody and costs no memory of its own.
func TestStalledReader(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{Tape: 4 << 10, Memory: 64 << 10})
	id := job.NewID()
	l.commit(h, id, job.Queued, job.Running)
	stalled := open(t, h, id, job.Cursor{})
	for range 5000 {
		l.commit(h, id, job.Progress)
	}
	require.Less(t, h.bytes, 64<<10)
	l.commit(h, id, job.Succeeded)
	require.Len(t, drain(t, stalled), 5003, "overtaken, it reads on in the log")
}

// Many jobs, readers that come and go and resume at random moments, under
// pressure of memory: each sees every event once, in order.
func TestRandomReaders(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{Tape: 2 << 10, Memory: 20 << 10, Readings: 2})
	var wg sync.WaitGroup
	for range 20 {
		id := job.NewID()
		l.commit(h, id, job.Queued, job.Running)
		wg.Go(func() {
			for range 200 {
				l.commit(h, id, job.Progress)
			}
			l.commit(h, id, job.Succeeded)
		})
		for range 5 {
			wg.Go(func() { readInPieces(t, h, id, 203) })
		}
	}
	wg.Wait()
}

func readInPieces(t *testing.T, h *Hub, id job.ID, want uint64) {
	var cursor job.Cursor
	for cursor.Seq < want {
		r, err := h.Open(t.Context(), id, cursor)
		require.NoError(t, err)
		for range rand.IntN(4) {
			b, err := r.Next(t.Context(), nil)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			seq := cursor.Seq
			for f := range b.Events() {
				seq++
				c, _ := job.ParseCursor(f.ID)
				require.Equal(t, seq, c.Seq)
			}
			cursor = r.Cursor()
		}
		r.Close()
	}
	require.Equal(t, want, cursor.Seq)
}

package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// follower notes what a Tail is told.
type follower struct {
	told []job.Cursor // of each commit
	at   job.Cursor   // where it is
	back bool         // it went back

	erased []job.ID
}

func (f *follower) Follow(c *job.Commit) {
	f.told = append(f.told, c.Job.Cursor)
	if c.Erases {
		f.erased = append(f.erased, c.Job.ID)
	}
	f.to(c.Job.Cursor)
}

func (f *follower) Jump(to job.Cursor) { f.to(to) }

func (f *follower) to(c job.Cursor) {
	f.back = f.back || f.at.Behind(c)
	f.at = c
}

// In whatever order messages are found, the tail goes forward, says nothing behind a hole,
// and has come to the end when all were.
func TestTailInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &follower{}
		tl := tail{to: f}
		const before = 7
		tl.begin(before, 1)
		n := rapid.IntRange(1, 40).Draw(t, "messages")
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		if rapid.Bool().Draw(t, "shuffled") {
			order = rapid.Permutation(order).Draw(t, "order")
		} else { // one that is late
			late := rapid.IntRange(0, n-1).Draw(t, "late")
			until := rapid.IntRange(late, n-1).Draw(t, "until")
			order = append(append(append(append([]int{}, order[:late]...), order[late+1:until+1]...), late), order[until+1:]...)
		}
		silent := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "silent")
		came := map[int]bool{}
		holes, last := 0, job.Cursor{Place: job.Place{Position: before, Epoch: 1}}
		for _, i := range order {
			var c *job.Commit
			if !silent[i] {
				c = &job.Commit{Job: &job.Job{Cursor: job.Cursor{Seq: 1, Place: job.Place{Position: uint64(before + 1 + i), Epoch: 1}}}}
			}
			if tl.put(uint64(before+1+i), c) {
				holes++
			}
			came[i] = true
			whole := 0
			for came[whole] {
				if !silent[whole] {
					last = job.Cursor{Seq: 1, Place: job.Place{Position: uint64(before + 1 + whole), Epoch: 1}}
				}
				whole++
			}
			require.EqualValues(t, before+whole, tl.head)
			require.Equal(t, last, f.at, "all that is whole was told, and no more")
			require.Equal(t, whole < len(came), len(tl.ahead) > 0)
			last = job.Cursor{Place: job.Place{Position: before, Epoch: 1}}
		}
		require.False(t, f.back)
		require.Empty(t, tl.ahead)
		if isSorted(order) {
			require.Zero(t, holes)
		} else {
			require.Positive(t, holes)
		}
	})
}

func isSorted(order []int) bool {
	for i, v := range order {
		if i != v {
			return false
		}
	}
	return true
}

// A message of the log that nobody here has published, or waits for, is passed after a while;
// until then nothing behind it is told.
func TestTailPassesWhatIsNobodys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &follower{}
		s := newMemory()
		q := queue.New()
		b, err := open(t.Context(), s, Options{Queue: q, Folds: []func(*job.Commit){q.Fold}, Tail: f})
		require.NoError(t, err)
		defer func() { require.NoError(t, b.Close()) }()
		at := func() job.Cursor {
			b.mu.Lock()
			defer b.mu.Unlock()
			return f.at
		}
		begun := at()
		published := make(chan uint64)
		s.publish("jobs.k.stranger", 0, []byte("not ours"), func(position uint64, err error) {
			go func() { published <- position }()
		})
		<-published
		id := job.NewID()
		_, err = b.Submit(context.Background(), id, &job.Request{Kind: "k"})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, begun, at())
		time.Sleep(2 * answerTime)
		synctest.Wait()
		j, err := b.Job(context.Background(), id)
		require.NoError(t, err)
		require.Equal(t, j.Cursor, at())
	})
}

// Whoever follows all jobs is told once when one that lives is erased, and nothing of it can be
// read behind any place.
func TestTailIsToldOfErased(t *testing.T) {
	f := &follower{}
	q := queue.New()
	k := job.Kind{Name: testKind, Concurrency: 1}
	b, err := open(t.Context(), newShared(t), Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}, Tail: f})
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Close()) }()
	id := submitTo(t, b)
	task := claimFrom(t, b, id)
	require.Empty(t, f.erased)
	require.NoError(t, b.Erase(t.Context(), id, "me"))
	require.Equal(t, []job.ID{id}, f.erased)
	_, err = b.Behind(t.Context(), id, job.Cursor{}, 1<<20)
	require.ErrorIs(t, err, job.ErrNotFound)
	require.NoError(t, task.succeed(t.Context()))
	task.end()
	require.Equal(t, []job.ID{id}, f.erased)
}

// A cursor is one of the store's if the log had come to its place in the life it names.
func TestCovers(t *testing.T) {
	at := func(position, epoch uint64) job.Cursor {
		return job.Cursor{Seq: 1, Place: job.Place{Position: position, Epoch: epoch}}
	}
	b := &Broker{head: 40, lives: lives{{100, 0}, {200, 10}, {300, 25}, {400, 20}}} // the third lost its end, and that of the second
	for c, want := range map[job.Cursor]bool{
		at(0, 100): true, at(5, 100): true, at(10, 100): true, at(11, 100): false,
		at(9, 200): false, at(11, 200): true, at(20, 200): true, at(21, 200): false, at(25, 200): false, at(26, 200): false,
		at(24, 300): false, at(25, 300): false, at(26, 300): false, at(30, 300): false,
		at(20, 400): true, at(21, 400): true, at(40, 400): true, at(41, 400): false, at(19, 400): false,
		at(20, 250): false, at(20, 500): false, {}: false,
	} {
		require.Equal(t, want, b.Covers(c), c.String())
	}
}

// Lives outlive the process; what cannot be read of them is forgotten, and there are not more
// and more of them.
func TestLivesAreKept(t *testing.T) {
	s := newShared(t)
	first := node(t, s)
	submitTo(t, first)
	id := submitTo(t, first)
	j, err := first.Job(t.Context(), id)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	var next *Broker
	for range maxLives - 1 {
		next = node(t, s)
		require.True(t, next.Covers(j.Cursor))
		require.NoError(t, next.Close())
	}
	require.Len(t, next.lives, maxLives)
	next = node(t, s)
	require.Len(t, next.lives, maxLives)
	require.False(t, next.Covers(j.Cursor), "too long ago")
	require.NoError(t, s.set(t.Context(), livesSetting, []byte("what is this"), false))
	require.NoError(t, next.Close())
	next = node(t, s)
	require.Len(t, next.lives, 1)
	require.NoError(t, next.Close())
}

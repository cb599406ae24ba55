package broker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// pageSize is how many bytes of events the tests read at a time.
const pageSize = 64 << 10

// allEvents reads a job from its beginning.
func allEvents(t *testing.T, b *Broker, id job.ID) []job.Event {
	t.Helper()
	return eventsAfter(t, b, id, job.Cursor{})
}

// eventsAfter reads a job page by page.
func eventsAfter(t *testing.T, b *Broker, id job.ID, after job.Cursor) []job.Event {
	t.Helper()
	events := []job.Event{}
	for {
		page, err := b.History(t.Context(), id, after, pageSize)
		require.NoError(t, err)
		if len(page) == 0 {
			return events
		}
		events = append(events, page...)
		after = page[len(page)-1].Cursor()
	}
}

func output(text string) job.Record {
	return job.Record{Type: job.Output, Data: job.MustData(map[string]any{"chunk": text})}
}

// entryOf returns the entry of a job in the log.
func entryOf(b *Broker, id job.ID) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.jobs[id]
}

// attached is the end of a task that has attached all full pieces of the result.
func attached(task *Task, result []byte) Success {
	return Success{
		Record: job.Record{
			Type: job.Succeeded, Data: job.MustData(map[string]any{}), Private: &job.Private{Result: &job.Result{Lease: task.lease, Size: int64(len(result))}},
		},
		Piece: result[(len(result)-1)/job.PieceSize*job.PieceSize:],
	}
}

func resultOf(t *testing.T, b *Broker, id job.ID) []byte {
	t.Helper()
	j, err := b.Job(t.Context(), id)
	require.NoError(t, err)
	r, err := b.Result(t.Context(), j)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	return got
}

// A job that was moved out of the way of the purge is the same job: its events,
// its input, its state, its result, before and after a restart, and in the archive.
func TestMove(t *testing.T) {
	for _, size := range []int{10, 3 * partSize / 4} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newShared(t)
			b := node(t, s)
			id := submitTo(t, b)
			first := claimFrom(t, b, id)
			require.NoError(t, first.Append(t.Context(), output(strings.Repeat("x", size))))
			require.NoError(t, first.back(t.Context()))
			require.NoError(t, b.move(entryOf(b, id)))

			task := claimFrom(t, b, id)
			require.Equal(t, "in", string(task.Input), "the input moved too")
			var result []byte
			for range 3 { // three more moves, each behind the last
				piece := noise(job.PieceSize)
				result = append(result, piece...)
				require.NoError(t, task.Attach(t.Context(), piece))
				require.NoError(t, task.Append(t.Context(), output(strings.Repeat("y", size)), progress()))
				before := allEvents(t, b, id)
				require.NoError(t, b.move(entryOf(b, id)))
				require.Equal(t, before, allEvents(t, b, id))
				for i, e := range before {
					require.Equal(t, before[i+1:], eventsAfter(t, b, id, e.Cursor()), "any id is a resume point")
				}
			}
			b.purgeBelow(b.mark())
			require.Equal(t, entryOf(b, id).floor, b.Purged()+1, "only the part record is left")
			before := allEvents(t, b, id)
			result = append(result, "the rest"...)
			task.Succeed(attached(task, result))
			require.NoError(t, task.succeed(t.Context()))
			require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
			require.Equal(t, before, allEvents(t, b, id)[:len(before)])
			require.True(t, bytes.Equal(result, resultOf(t, b, id)))
		})
	}
}

// What was moved is there after a restart, also if the purge had not come that far.
func TestMoveOutlivesProcess(t *testing.T) {
	for _, purge := range []bool{false, true} {
		t.Run(fmt.Sprint(purge), func(t *testing.T) {
			s := newShared(t)
			b := node(t, s)
			id, queued := submitTo(t, b), submitTo(t, b)
			task := claimFrom(t, b, id)
			for range 3 {
				require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", partSize/2))))
			}
			for _, id := range []job.ID{queued, id} {
				require.NoError(t, b.move(entryOf(b, id)))
			}
			require.NoError(t, task.Append(t.Context(), progress()))
			if purge {
				b.purgeBelow(b.mark())
			}
			before, j := allEvents(t, b, id), entryOf(b, id).job
			requireFloors(t, b)
			halt(b)

			next := node(t, s)
			requireFloors(t, next)
			require.Equal(t, before, allEvents(t, next, id)[:len(before)])
			after, err := next.Job(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, job.StatusQueued, after.Status, "its process is gone")
			require.Equal(t, j.Attempt+1, after.Attempt)
			require.Equal(t, j.Request.Kind, after.Request.Kind)
			require.Equal(t, j.CreatedAt, after.CreatedAt)
			for _, want := range []job.ID{id, queued} {
				got, err := next.queue.Take(t.Context(), testKind)
				require.NoError(t, err)
				require.Equal(t, want, got, "jobs keep their places in the queue")
				task := claimFrom(t, next, got)
				require.Equal(t, "in", string(task.Input))
				require.NoError(t, task.succeed(t.Context()))
				require.Eventually(t, func() bool { return next.Archived(got) }, timeToWait, tick)
			}
			require.Equal(t, before, allEvents(t, next, id)[:len(before)])
		})
	}
}

// What is left of a job's messages before its part record, because another job holds
// the log in the middle of them, is no damage.
func TestMovePurgedInTheMiddle(t *testing.T) {
	s := newShared(t)
	b := node(t, s)
	id := submitTo(t, b)
	task := claimFrom(t, b, id)
	holder := submitTo(t, b)
	require.NoError(t, task.Append(t.Context(), output("behind the holder")))
	require.NoError(t, b.move(entryOf(b, id)))
	b.purgeBelow(b.mark())
	require.Equal(t, entryOf(b, holder).floor, b.Purged()+1)
	before := allEvents(t, b, id)
	halt(b)

	next, logs := reopen(t, s, time.Hour)
	require.Zero(t, logs.FilterLevelExact(zap.ErrorLevel).Len(), "%v", logs.All())
	require.Equal(t, before, allEvents(t, next, id)[:len(before)])
	require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
	require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
}

// Moves come at any time, and the job goes on meanwhile.
func TestMoveOfABusyJob(t *testing.T) {
	b := node(t, newShared(t))
	task := claimFrom(t, b, submitTo(t, b))
	const moves, writers, each = 20, 8, 5 // each: a writer's, beside each move
	turns := make(chan struct{}, moves*writers*each)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range turns {
				require.NoError(t, task.Append(t.Context(), output(strings.Repeat("y", 2000))))
			}
		})
	}
	for range moves { // however the writers are scheduled, each move has some beside it
		for range writers * each {
			turns <- struct{}{}
		}
		require.NoError(t, b.move(entryOf(b, task.Job.ID)))
	}
	close(turns)
	wg.Wait()
	require.NoError(t, task.succeed(t.Context()))
	events := allEvents(t, b, task.Job.ID)
	require.Len(t, events, moves*writers*each+3)
	for i, e := range events {
		require.EqualValues(t, i+1, e.Seq)
	}
}

// A job that nobody runs does not keep the log from being purged.
func TestOldJobsDoNotHoldTheLog(t *testing.T) {
	b := node(t, newShared(t))
	old := job.NewID()
	_, err := b.Submit(t.Context(), old, &job.Request{Kind: "nobody-serves-it", Input: []byte("in")})
	require.NoError(t, err)
	b.mu.Lock()
	b.moveBehind = 64 << 10
	b.mu.Unlock()
	b.moveOld()
	require.Zero(t, entryOf(b, old).moved, "it does not hold much yet")
	for range 3 {
		task := claimFrom(t, b, submitTo(t, b))
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("z", 64<<10))))
		require.NoError(t, task.succeed(t.Context()))
		require.Eventually(t, func() bool { return b.Archived(task.Job.ID) }, timeToWait, tick)
	}
	require.Eventually(t, func() bool { return b.Purged() > 9 }, timeToWait, tick)
	require.Len(t, allEvents(t, b, old), 1)
}

// One that is damaged is moved as it is: it is still told from a job that never was,
// and the rest of the log can be purged.
func TestMoveOfADamagedJob(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	b := node(t, shared{m})
	bad := submitTo(t, b)
	m.mu.Lock()
	m.log[0].data = []byte("damaged")
	m.mu.Unlock()
	halt(b)
	for range 2 { // and after the next restart
		b = node(t, shared{m})
		require.NoError(t, b.move(entryOf(b, bad)))
		b.purgeBelow(b.mark())
		_, err := b.Job(t.Context(), bad)
		require.ErrorContains(t, err, errDamaged.Error())
		_, err = b.History(t.Context(), bad, job.Cursor{}, pageSize)
		require.ErrorContains(t, err, errDamaged.Error())
		halt(b)
	}
	require.Len(t, m.log, 1)
	a, err := b.partRecord(t.Context(), subjectOf(testKind, bad), m.log[0].position)
	require.NoError(t, err)
	raw, err := unpack("", a.pack)
	require.NoError(t, err)
	require.Equal(t, "damaged", string(raw[0].data), "what was stored is kept")
}

// TestCrashInMove ends the process before and after each step of a move, and of the
// archiving of what was moved.
func TestCrashInMove(t *testing.T) { atEveryStep(t, crashInMove) }

// crashInMove reports whether all was done before the crash came.
func crashInMove(t *testing.T, n int, after bool) (finished bool) {
	s := newShared(t)
	c := &crash{store: s, left: 1 << 30, after: after}
	b := node(t, c)
	id := submitTo(t, b)
	task := claimFrom(t, b, id)
	for range 5 {
		require.NoError(t, task.Append(t.Context(), output(strings.Repeat("x", partSize/2))))
	}
	before := allEvents(t, b, id)
	c.mu.Lock()
	c.left = n
	c.mu.Unlock()
	_ = b.move(entryOf(b, id))
	b.purgeBelow(b.mark())
	if task.succeed(t.Context()) == nil {
		b.archiveOver()
	}
	b.purgeBelow(b.mark())
	finished = c.end(b)

	next := node(t, s)
	require.Equal(t, before, allEvents(t, next, id)[:len(before)])
	if j, err := next.Job(t.Context(), id); err == nil && !j.Status.Over() {
		require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
	}
	require.Eventually(t, func() bool { return next.Archived(id) }, timeToWait, tick)
	require.Equal(t, before, allEvents(t, next, id)[:len(before)])
	halt(next)
	next = node(t, s) // which sweeps
	requireNoOrphans(t, next, id)
	return finished
}

// requireNoOrphans sees that the archive has no part but those that the job's head
// names, or those that expire with nothing in them.
func requireNoOrphans(t *testing.T, b *Broker, id job.ID) {
	t.Helper()
	a, err := b.fetch(t.Context(), id)
	require.NoError(t, err)
	names, err := b.store.names(context.Background(), "*.*")
	require.NoError(t, err)
	for _, name := range names {
		_, n, _ := parsePart(name)
		body, err := b.store.archived(t.Context(), name)
		require.NoError(t, err)
		require.True(t, n < len(a.Parts) || len(body) == 0, "%s is kept for ever", name)
	}
}

// putting is a store that calls a function before each put.
type putting struct {
	store
	before func()
}

func (p *putting) put(ctx context.Context, name string, data []byte, ttl time.Duration) error {
	p.before()
	return p.store.put(ctx, name, data, ttl)
}

// An attempt may begin while what is stored is packed: what it says is kept.
func TestAttemptBeginsWhileMoved(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	s := &putting{store: shared{m}, before: func() {}}
	b := node(t, s)
	id := submitTo(t, b)
	first := claimFrom(t, b, id)
	for range 3 {
		require.NoError(t, first.Append(t.Context(), output(strings.Repeat("x", partSize/2))))
	}
	require.NoError(t, first.back(t.Context()))
	result := noise(job.PieceSize + 1000)
	var second *Task
	s.before = func() {
		if second == nil {
			second = claimFrom(t, b, id)
			require.NoError(t, second.Attach(t.Context(), result[:job.PieceSize]))
		}
	}
	require.NoError(t, b.move(entryOf(b, id)))
	second.Succeed(attached(second, result))
	require.NoError(t, second.succeed(t.Context()))
	require.Eventually(t, func() bool { return b.Archived(id) }, timeToWait, tick)
	require.True(t, bytes.Equal(result, resultOf(t, b, id)))
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, e := range m.archive {
		require.False(t, e.end.IsZero(), "%s of a job that is over is kept for ever", name)
	}
}

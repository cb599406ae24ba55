package tape_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

const plenty = 64 << 20 // a budget that is never full

// filled returns a tape with the events of a run from the first on.
func filled(t testing.TB, n, size, budget int) *tape.Tape {
	tp := tape.New(job.Cursor{}, budget)
	require.NoError(t, tp.Append(run(0, n, size)...))
	return tp
}

func seek(t testing.TB, tp *tape.Tape, after job.Cursor) tape.Mark {
	m, err := tp.Seek(after)
	require.NoError(t, err)
	require.Equal(t, after, m.Cursor())
	return m
}

func TestTapeReads(t *testing.T) {
	tp := filled(t, 3, 10, plenty)
	for seq, want := range [][]uint64{{1, 2, 3}, {2, 3}, {3}, nil} {
		after := cursor(uint64(seq))
		if seq == 0 {
			after = job.Cursor{}
		}
		m := seek(t, tp, after)
		b, next, err := tp.Read(m)
		require.NoError(t, err)
		require.Equal(t, want, seqs(t, b))
		require.Equal(t, cursor(3), next.Cursor())
		require.Equal(t, tp.Head(), next.Cursor())
		if want != nil {
			require.Equal(t, next.Cursor(), b.Last)
		}
		b, again, err := tp.Read(next)
		require.NoError(t, err)
		require.Empty(t, b)
		require.Equal(t, next, again)
	}
}

func TestTapeHoldsWhatEncodeMakes(t *testing.T) {
	events := run(0, 50, 300)
	tp := tape.New(job.Cursor{}, plenty)
	for i := range events {
		require.NoError(t, tp.Append(events[i]))
	}
	b, _, err := tp.Read(seek(t, tp, job.Cursor{}))
	require.NoError(t, err)
	require.Equal(t, tape.Encode(events...), b)
}

func TestTapeRefusesCursorsOfOthers(t *testing.T) {
	begin := cursor(100)
	tp := tape.New(begin, plenty)
	require.NoError(t, tp.Append(run(100, 100, 300)...)) // over several marks

	for name, c := range map[string]job.Cursor{
		"position":          {Seq: 150, Place: job.Place{Position: 1501, Epoch: 1}},
		"epoch":             {Seq: 150, Place: job.Place{Position: 1500, Epoch: 2}},
		"position at first": {Seq: 100, Place: job.Place{Position: 1001, Epoch: 1}},
		"position at head":  {Seq: 200, Place: job.Place{Position: 2001, Epoch: 1}},
		"epoch at head":     {Seq: 200, Place: job.Place{Position: 2000, Epoch: 2}},
		"future":            cursor(201),
		"far future":        {Seq: 1<<64 - 1},
	} {
		_, err := tp.Seek(c)
		require.ErrorIs(t, err, job.ErrCursor, name)
	}
	for _, c := range []job.Cursor{{}, cursor(1), cursor(99), {Seq: 99, Place: job.Place{Position: 7, Epoch: 7}}} {
		_, err := tp.Seek(c)
		require.ErrorIs(t, err, tape.ErrOvertaken, c)
	}
	for seq := uint64(100); seq <= 200; seq++ {
		seek(t, tp, cursor(seq))
	}
}

// The place before the first event is the same one in every life of the store.
func TestTapeStartHasNoEpoch(t *testing.T) {
	tp := tape.New(job.Cursor{Place: job.Place{Epoch: 3}}, plenty)
	for _, events := range [][]job.Event{nil, run(0, 1, 10)} {
		require.NoError(t, tp.Append(events...))
		_, err := tp.Seek(job.Cursor{Place: job.Place{Epoch: 4}})
		require.NoError(t, err)
		_, err = tp.Seek(job.Cursor{Place: job.Place{Position: 1, Epoch: 3}})
		require.ErrorIs(t, err, job.ErrCursor)
	}
}

func TestTapeEnds(t *testing.T) {
	tp := filled(t, 1, 10, plenty)
	m := seek(t, tp, tp.Head())
	require.False(t, tp.End())
	require.NoError(t, tp.Append(event(cursor(2), job.Log, "{}"), event(cursor(3), job.Succeeded, "{}")))
	require.True(t, tp.End())

	b, m, err := tp.Read(m)
	require.NoError(t, err)
	require.True(t, b.End)
	require.Equal(t, []uint64{2, 3}, seqs(t, b))
	for range 2 {
		b, m, err = tp.Read(m)
		require.ErrorIs(t, err, io.EOF)
		require.Empty(t, b)
	}
	_, _, err = tp.Read(seek(t, tp, cursor(3)))
	require.ErrorIs(t, err, io.EOF)
	require.ErrorIs(t, tp.Append(run(3, 1, 10)...), tape.ErrOrder)
}

func TestTapeTakesOnlyTheNextEvents(t *testing.T) {
	for name, events := range map[string][]job.Event{
		"again":            run(2, 1, 10),
		"hole":             run(4, 1, 10),
		"hole in between":  append(run(3, 2, 10), run(6, 1, 10)...),
		"twice":            append(run(3, 1, 10), run(3, 1, 10)...),
		"behind the last":  {event(cursor(4), job.Failed, "{}"), event(cursor(5), job.Log, "{}")},
		"two ends":         {event(cursor(4), job.Failed, "{}"), event(cursor(5), job.Failed, "{}")},
		"from the start":   run(0, 5, 10),
		"seq of no record": {event(job.Cursor{}, job.Log, "{}")},
	} {
		tp := filled(t, 3, 10, plenty)
		changed := tp.Changed()
		require.ErrorIs(t, tp.Append(events...), tape.ErrOrder, name)
		require.Equal(t, cursor(3), tp.Head())
		require.False(t, isClosed(changed), name)
		require.NoError(t, tp.Append(run(3, 1, 10)...), name)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestTapeChanged(t *testing.T) {
	tp := tape.New(job.Cursor{}, plenty)
	for _, change := range []func(){
		func() { require.NoError(t, tp.Append(run(0, 1, 10)...)) },
		func() { tp.Jump(cursor(5)) },
		func() { require.NoError(t, tp.Append(event(cursor(6), job.Failed, "{}"))) },
	} {
		changed := tp.Changed()
		require.Equal(t, changed, tp.Changed(), "all wait at one channel")
		require.NoError(t, tp.Append())
		require.False(t, isClosed(changed))
		change()
		require.True(t, isClosed(changed))
		require.False(t, isClosed(tp.Changed()))
	}
}

func TestTapeJumps(t *testing.T) {
	tp := filled(t, 100, 300, plenty)
	begin, head := seek(t, tp, job.Cursor{}), seek(t, tp, cursor(100))
	tp.Jump(cursor(100))
	for _, m := range []tape.Mark{begin, head} {
		_, _, err := tp.Read(m)
		require.ErrorIs(t, err, tape.ErrOvertaken)
	}
	require.Zero(t, tp.Size())
	require.Equal(t, cursor(100), tp.Head())
	m := seek(t, tp, cursor(100))
	require.NoError(t, tp.Append(run(100, 3, 10)...))
	b, _, err := tp.Read(m)
	require.NoError(t, err)
	require.Equal(t, []uint64{101, 102, 103}, seqs(t, b))

	tp.Jump(cursor(7)) // backwards
	require.NoError(t, tp.Append(run(7, 1, 10)...))
	b, _, err = tp.Read(seek(t, tp, cursor(7)))
	require.NoError(t, err)
	require.Equal(t, []uint64{8}, seqs(t, b))
}

// Who read everything of an ended tape that then lost its events has still read
// everything.
func TestTapeJumpsToItsEnd(t *testing.T) {
	end := event(cursor(2), job.Succeeded, "{}")
	tp := filled(t, 1, 10, plenty)
	require.NoError(t, tp.Append(end))
	tp.Jump(tp.Head())
	require.True(t, tp.End())
	_, _, err := tp.Read(seek(t, tp, cursor(2)))
	require.ErrorIs(t, err, io.EOF)

	tp.Jump(cursor(1))
	require.False(t, tp.End())
	require.NoError(t, tp.Append(end))
}

func TestTapeBlocksAreBounded(t *testing.T) {
	// Up to seq 9 a frame has this size beside its data.
	frame := len(tape.Encode(run(0, 1, 1000)...).Bytes) - 1000
	fitting := tape.MaxBlock - (frame + 1000) - frame
	for name, events := range map[string][]job.Event{
		"small":                    run(0, 5000, 100),
		"odd":                      run(0, 700, 4999),
		"near the limit":           run(0, 5, tape.MaxBlock-150),
		"over the limit":           run(0, 5, tape.MaxBlock+1),
		"exactly the limit, twice": append(append(run(0, 1, fitting), run(1, 1, 1000)...), run(2, 2, tape.MaxBlock/2-frame)...),
		"mixed": append(append(append(append(run(0, 10, 100), run(10, 1, 2*tape.MaxBlock)...),
			run(11, 4000, 100)...), run(4011, 1, tape.MaxBlock-1000)...), run(4012, 3, 100)...),
	} {
		t.Run(name, func(t *testing.T) {
			events = append(events, event(cursor(uint64(len(events)+1)), job.Failed, "{}"))
			tp := tape.New(job.Cursor{}, plenty)
			require.NoError(t, tp.Append(events...))
			var all []byte
			var frames []int // sizes
			for f := range tape.Encode(events...).Events() {
				frames = append(frames, len(f.JSON)+len(f.ID)+len(f.Type)+len("id: \nevent: \ndata: \n\n"))
			}
			m := seek(t, tp, job.Cursor{})
			for next := 0; next < len(events); {
				b, behind, err := tp.Read(m)
				require.NoError(t, err)
				n := len(seqs(t, b))
				require.True(t, len(b.Bytes) <= tape.MaxBlock || n == 1)
				all, m, next = append(all, b.Bytes...), behind, next+n
				require.Equal(t, cursor(uint64(next)), b.Last)
				require.Equal(t, next == len(events), b.End)
				if !b.End {
					require.Greater(t, len(b.Bytes)+frames[next], tape.MaxBlock, "one more would have fitted")
				}
			}
			require.Equal(t, tape.Encode(events...).Bytes, all)
		})
	}
}

// A tape that is full keeps the newer half at the least, and stays in one array
// until that is full again.
func TestTapeBudget(t *testing.T) {
	const budget, events = 64 << 10, 5000
	tp := tape.New(job.Cursor{}, budget)
	for seq := range uint64(events) {
		require.NoError(t, tp.Append(run(seq, 1, 300)...))
		require.LessOrEqual(t, tp.Size(), budget*5/4, "the usual room of a slice that grows")
		if seq > events/2 {
			require.InDelta(t, budget, tp.Size(), budget/50)
		}
	}
	for n := range uint64(budget / 2 / 512) {
		seek(t, tp, cursor(events-n))
	}
	_, err := tp.Seek(cursor(events - budget/300))
	require.ErrorIs(t, err, tape.ErrOvertaken)
}

func TestTapeKeepsTheNewestWhateverItsSize(t *testing.T) {
	const budget = 1000
	tp := filled(t, 3, 100, budget)
	require.NoError(t, tp.Append(run(3, 1, 10*budget)...))
	b, _, err := tp.Read(seek(t, tp, cursor(3)))
	require.NoError(t, err)
	require.Equal(t, []uint64{4}, seqs(t, b))
	_, err = tp.Seek(cursor(2))
	require.ErrorIs(t, err, tape.ErrOvertaken)

	require.NoError(t, tp.Append(run(4, 1, 100)...)) // and no longer than it is
	_, err = tp.Seek(cursor(3))
	require.ErrorIs(t, err, tape.ErrOvertaken)
	seek(t, tp, cursor(4))
	require.Less(t, tp.Size(), 2*budget)
}

// No reader's block changes, whatever is appended behind it or dropped before it.
func TestTapeBlocksNeverChange(t *testing.T) {
	tp := tape.New(job.Cursor{}, 4000)
	var blocks, copies []tape.Block
	m := seek(t, tp, job.Cursor{})
	for seq := range uint64(500) {
		require.NoError(t, tp.Append(run(seq, 1, 50+int(seq)%200)...))
		b, next, err := tp.Read(m)
		require.NoError(t, err)
		require.Equal(t, len(b.Bytes), cap(b.Bytes), "an append to a block must not reach the tape")
		m = next
		blocks = append(blocks, b)
		b.Bytes = bytes.Clone(b.Bytes)
		copies = append(copies, b)
	}
	require.Equal(t, copies, blocks)
}

func TestReadAllocatesNothing(t *testing.T) {
	tp := filled(t, 20000, 100, plenty) // more than a block: the search for its end is free too
	m := seek(t, tp, cursor(19990))
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = tp.Read(m) }))
}

// Readers that come, lag, are overtaken and are cut off by jumps, beside the
// writer: each sees every event, in order, byte for byte.
func TestReadersBesideTheWriter(t *testing.T) {
	const total, readers = 3000, 16
	var events []job.Event // the store
	for seq := range uint64(total) {
		events = append(events, run(seq, 1, 50+int(seq*7919)%700)...)
	}
	events[total-1].Type = job.Succeeded
	want := tape.Encode(events...).Bytes
	tp := tape.New(job.Cursor{}, 20_000)

	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			got, err := follow(tp, events, i)
			if err != nil || !bytes.Equal(want, got) {
				t.Errorf("reader %d: %v; what it read is right: %t", i, err, bytes.Equal(want, got))
			}
		})
	}
	wg.Go(func() {
		for at := 0; at < total; {
			n := min(1+at%7, total-at)
			if err := tp.Append(events[at : at+n]...); err != nil {
				t.Errorf("at %d: %v", at, err)
				return
			}
			if at += n; at%500 < n && at < total {
				tp.Jump(tp.Head())
			}
		}
	})
	wg.Wait()
}

// follow reads the tape to its end, from the store where the tape does not reach;
// it reads one block more from there for every lag.
func follow(tp *tape.Tape, store []job.Event, lag int) (got []byte, err error) {
	var after job.Cursor
	for {
		changed := tp.Changed()
		m, err := tp.Seek(after)
		var b tape.Block
		for err == nil {
			if b, m, err = tp.Read(m); len(b.Bytes) == 0 {
				break
			}
			got, after = append(got, b.Bytes...), b.Last
		}
		switch {
		case err == nil:
			<-changed
		case errors.Is(err, tape.ErrOvertaken):
			for range lag + 1 {
				n := min(after.Seq+10, tp.Head().Seq)
				if n > after.Seq {
					b = tape.Encode(store[after.Seq:n]...)
					got, after = append(got, b.Bytes...), b.Last
				}
			}
		case errors.Is(err, io.EOF):
			return got, nil
		default:
			return got, err
		}
	}
}

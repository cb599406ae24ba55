package tape_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// model is a tape that keeps all: events and the places between them.
type model struct {
	tape    *tape.Tape
	budget  int
	places  []job.Cursor // the first is before the first event
	events  []job.Event
	readers []standing
	held    []held
}

// standing is a reader: its mark, and the index of its place.
type standing struct {
	mark  tape.Mark
	place int
}

// held is a block and what was in it when it was read.
type held struct {
	block tape.Block
	was   string
}

func (m *model) head() job.Cursor { return m.places[len(m.places)-1] }

func (m *model) ended() bool {
	return len(m.events) > 0 && m.events[len(m.events)-1].Type.Terminal()
}

// kept returns the index of the first place that the tape must still have, if it
// has dropped what it may, and of the first that it may have.
func (m *model) kept() (must, may int) {
	size, must, may := 0, len(m.events), len(m.events)
	for i := len(m.events) - 1; i >= 0; i-- {
		size += len(tape.AppendFrame(nil, &m.events[i]))
		if size <= m.budget/2 || i == len(m.events)-1 {
			must = i
		}
		if size <= m.budget || i == len(m.events)-1 {
			may = i
		}
	}
	return must, may
}

func (m *model) append(t *rapid.T) {
	c := m.head()
	var events []job.Event
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		c.Seq++
		if rapid.Bool().Draw(t, "next message") {
			c.Position += rapid.Uint64Range(1, 9).Draw(t, "position")
		}
		if rapid.IntRange(0, 9).Draw(t, "life") == 0 {
			c.Epoch++
		}
		size := rapid.SampledFrom([]int{0, 10, 100, 500, 3000, 20_000}).Draw(t, "size")
		events = append(events, event(c, job.Output, `"`+strings.Repeat("x", size)+`"`))
	}
	if n := len(events); n > 0 && rapid.IntRange(0, 30).Draw(t, "end") == 0 {
		events[n-1].Type = job.Failed
	}
	if m.ended() && len(events) > 0 {
		require.ErrorIs(t, m.tape.Append(events...), tape.ErrOrder)
		return
	}
	require.NoError(t, m.tape.Append(events...))
	for i := range events {
		m.events, m.places = append(m.events, events[i]), append(m.places, events[i].Cursor())
	}
}

func (m *model) jump(t *rapid.T) {
	first := job.Cursor{
		Seq:   rapid.Uint64Range(0, 50).Draw(t, "seq"),
		Place: job.Place{Position: rapid.Uint64Range(1, 50).Draw(t, "position"), Epoch: 1},
	}
	m.tape.Jump(first)
	*m = model{tape: m.tape, budget: m.budget, places: []job.Cursor{first}, held: m.held}
}

// seek asks for each place there is; the older ones may be overtaken.
func (m *model) seek(t *rapid.T) {
	must, may := m.kept()
	had := false
	for i, c := range m.places {
		mark, err := m.tape.Seek(c)
		if err != nil {
			require.ErrorIs(t, err, tape.ErrOvertaken)
			require.False(t, had, "a place before one that is kept, but not this one")
			require.Less(t, i, must)
			continue
		}
		had = true
		require.GreaterOrEqual(t, i, may)
		require.Equal(t, c, mark.Cursor())
		m.readers = append(m.readers, standing{mark, i})
	}
	require.True(t, had)
}

// seekOther asks for what is no place of the job.
func (m *model) seekOther(t *rapid.T) {
	c := rapid.SampledFrom(m.places).Draw(t, "place")
	switch rapid.IntRange(0, 2).Draw(t, "what") {
	case 0:
		c.Epoch++
	case 1:
		c.Position++
	case 2:
		c.Seq = m.head().Seq + rapid.Uint64Range(1, 100).Draw(t, "ahead")
	}
	if slices.Contains(m.places, c) || c.Start() {
		return
	}
	_, err := m.tape.Seek(c)
	if first := m.places[0]; c.Seq < first.Seq || err != nil && c.Seq < m.head().Seq {
		require.True(t, err == tape.ErrOvertaken || err == job.ErrCursor, err)
		return
	}
	require.ErrorIs(t, err, job.ErrCursor)
}

// read moves one reader on.
func (m *model) read(t *rapid.T) {
	if len(m.readers) == 0 {
		return
	}
	r := rapid.SampledFrom(m.readers).Draw(t, "reader")
	b, next, err := m.tape.Read(r.mark)
	switch must, _ := m.kept(); {
	case err == tape.ErrOvertaken:
		require.Less(t, r.place, must)
	case r.place < len(m.events):
		want, place := m.block(r.place)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want.Bytes, b.Bytes))
		require.Equal(t, want.Last, b.Last)
		require.Equal(t, want.End, b.End)
		require.Equal(t, want.Last, next.Cursor())
		m.readers = append(m.readers, standing{next, place})
		m.held = append(m.held, held{b, string(b.Bytes)})
	case m.ended():
		require.Equal(t, io.EOF, err)
	default:
		require.NoError(t, err)
		require.Empty(t, b)
		require.Equal(t, r.mark, next)
	}
}

// block returns what is behind the place, as far as it goes into one block, and
// the place behind that.
func (m *model) block(place int) (b tape.Block, next int) {
	for next = place + 1; next < len(m.events); next++ {
		if len(tape.Encode(m.events[place:next+1]...).Bytes) > tape.MaxBlock {
			break
		}
	}
	return tape.Encode(m.events[place:next]...), next
}

func (m *model) check(t *rapid.T) {
	require.Equal(t, m.head(), m.tape.Head())
	require.Equal(t, m.ended(), m.tape.End())
	for _, h := range m.held {
		require.True(t, h.was == string(h.block.Bytes), "a block changed")
	}
}

func TestTapeAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := job.Cursor{Seq: rapid.Uint64Range(0, 3).Draw(t, "first")}
		budget := rapid.SampledFrom([]int{0, 1, 1000, 10_000, 50_000, plenty}).Draw(t, "budget")
		m := &model{tape: tape.New(first, budget), budget: budget, places: []job.Cursor{first}}
		t.Repeat(map[string]func(*rapid.T){
			"append":     m.append,
			"append too": m.append,
			"seek":       m.seek,
			"seek other": m.seekOther,
			"read":       m.read,
			"read too":   m.read,
			"jump": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					m.jump(t)
				}
			},
			"": m.check,
		})
	})
}

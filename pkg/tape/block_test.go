package tape_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
	"github.com/millstream/millstream/pkg/tape"
)

const id = job.ID("job_01k3z9m5a7t6v8w9x0y1z2b3c4")

var noon = time.Date(2026, 11, 22, 12, 0, 0, 120e6, time.UTC)

// event returns an event at the cursor.
func event(c job.Cursor, t job.Type, data string) job.Event {
	return job.Event{
		Record: job.Record{Seq: c.Seq, Type: t, Attempt: 1, Time: noon, Data: json.RawMessage(data)},
		Job:    id,
		Place:  c.Place,
	}
}

// cursor returns the cursor that every event of a plain run has.
func cursor(seq uint64) job.Cursor {
	return job.Cursor{Seq: seq, Place: job.Place{Position: 10 * seq, Epoch: 1}}
}

// run returns n events, the first of them behind seq, each with so many bytes of
// data.
func run(seq uint64, n, size int) (events []job.Event) {
	data := `"` + strings.Repeat("x", size-2) + `"`
	for range n {
		seq++
		events = append(events, event(cursor(seq), job.Output, data))
	}
	return events
}

// seqs returns the seq of each event of the block.
func seqs(t require.TestingT, b tape.Block) (seqs []uint64) {
	for f := range b.Events() {
		c, err := job.ParseCursor(f.ID)
		require.NoError(t, err)
		seqs = append(seqs, c.Seq)
	}
	return seqs
}

func TestAppendFrame(t *testing.T) {
	e := event(job.Cursor{Seq: 7, Place: job.Place{Position: 18423, Epoch: 1}}, job.Progress, `{"progress":42}`)
	want := "event: job.progress\ndata: " +
		`{"id":"7-18423-1","seq":7,"type":"job.progress","job":"job_01k3z9m5a7t6v8w9x0y1z2b3c4","attempt":1,` +
		`"time":"2026-11-22T12:00:00.120Z","data":{"progress":42}}` + "\nid: 7-18423-1\n\n"
	require.Equal(t, want, string(tape.AppendFrame(nil, &e)))
	require.Equal(t, "before "+want, string(tape.AppendFrame([]byte("before "), &e)))
}

func TestEncode(t *testing.T) {
	require.Equal(t, tape.Block{}, tape.Encode())

	events := run(0, 3, 10)
	b := tape.Encode(events...)
	require.Equal(t, cursor(3), b.Last)
	require.False(t, b.End)
	i := 0
	for f := range b.Events() {
		require.Equal(t, events[i].Cursor().String(), f.ID)
		require.Equal(t, string(events[i].Type), f.Type)
		require.Equal(t, string(events[i].AppendJSON(nil)), string(f.JSON))
		i++
	}
	require.Equal(t, 3, i)

	for _, end := range []job.Type{job.Succeeded, job.Failed, job.Canceled} {
		require.True(t, tape.Encode(event(cursor(1), job.Log, "{}"), event(cursor(2), end, "{}")).End)
	}
}

// What EventSource sees of a block is what its frames say.
func TestBlockIsAStream(t *testing.T) {
	b := tape.Encode(event(cursor(1), job.Queued, `{}`), event(cursor(2), "tool.call", `{"a":" b "}`), event(cursor(3), job.Canceled, `""`))
	r := sse.NewReader(strings.NewReader(string(b.Bytes)))
	for f := range b.Events() {
		e, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, sse.Event{ID: f.ID, Type: f.Type, Data: f.JSON}, e)
	}
	require.Equal(t, b.Last.String(), r.LastID())
}

// Whatever a worker wrote, it is one event, and still JSON if it was.
func TestHostileEventIsOneFrame(t *testing.T) {
	for _, data := range []string{
		"{\n  \"a\": [1,\r\n 2]\r}",
		"{}\n\nid: 9-9-9\nevent: job.succeeded\ndata: {}",
		"{}\r\rid: 9-9-9\revent: job.succeeded\rdata: {}",
		"\n", "\r\n\r\n", `"\n\n"`, "\"\u2028\"",
	} {
		for _, typ := range []job.Type{"a", "a\n\nevent: b", "a\r\revent: b", "\n"} {
			stream := tape.Encode(event(cursor(1), job.Log, "1"), event(cursor(2), typ, data), event(cursor(3), job.Log, "3"))
			require.Equal(t, []uint64{1, 2, 3}, seqs(t, stream))
			r := sse.NewReader(strings.NewReader(string(stream.Bytes)))
			for f := range stream.Events() {
				e, err := r.Next()
				require.NoError(t, err)
				require.Equal(t, sse.Event{ID: f.ID, Type: f.Type, Data: f.JSON}, e)
			}
		}
		if json.Valid([]byte(data)) {
			var e job.Event
			frames := slices.Collect(tape.Encode(event(cursor(1), "a", data)).Events())
			require.NoError(t, json.Unmarshal(frames[0].JSON, &e))
			require.JSONEq(t, data, string(e.Data))
		}
	}
}

func TestEventsStopAtWhatIsNoFrame(t *testing.T) {
	whole := tape.Encode(run(0, 1, 10)...).Bytes
	for n := range len(whole) {
		b := tape.Block{Bytes: append(slices.Clip(whole), whole[:n]...)}
		require.Equal(t, []uint64{1}, seqs(t, b), "cut off after %d bytes", n)
	}
	for _, other := range []string{":\n", "\n\n", "data: x\n\n", "id: 1\ndata: x\n\n", "id: 1\nevent: a\ndata: x\nid: 2\n\n", "id: 1\nevent: a\ndata: x\n\n"} {
		require.Empty(t, seqs(t, tape.Block{Bytes: []byte(other)}))
	}
}

func TestEventsEndsWithItsLoop(t *testing.T) {
	n := 0
	for range tape.Encode(run(0, 3, 10)...).Events() {
		n++
		break
	}
	require.Equal(t, 1, n)
}

// Frames are slices of the block, and an append to one does not reach the next.
func TestEventsCopiesNothing(t *testing.T) {
	b := tape.Encode(run(0, 100, 100)...)
	lo := uintptr(unsafe.Pointer(unsafe.SliceData(b.Bytes)))
	inside := func(p *byte) bool { at := uintptr(unsafe.Pointer(p)); return lo <= at && at < lo+uintptr(len(b.Bytes)) }
	for f := range b.Events() {
		require.True(t, inside(unsafe.StringData(f.ID)) && inside(unsafe.StringData(f.Type)) && inside(unsafe.SliceData(f.JSON)))
		require.Equal(t, len(f.JSON), cap(f.JSON))
	}
	n := 0
	require.Zero(t, testing.AllocsPerRun(10, func() {
		for f := range b.Events() {
			n += len(f.JSON)
		}
	}))
}

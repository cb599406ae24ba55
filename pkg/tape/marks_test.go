package tape

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// A search never has to go over more than markEvery bytes and one event, however
// much was appended and dropped before.
func TestMarksAreNeverFarApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tp := New(job.Cursor{}, rapid.SampledFrom([]int{1, 10_000, 100_000}).Draw(t, "budget"))
		size := rapid.SampledFrom([]int{1, 100, 3000, 9000})
		for seq := uint64(0); seq < 100; {
			var events []job.Event
			for range rapid.IntRange(1, 20).Draw(t, "events") {
				seq++
				data := json.RawMessage(strings.Repeat("1", size.Draw(t, "size")))
				events = append(events, job.Event{Record: job.Record{Seq: seq, Type: job.Log, Data: data}})
			}
			require.NoError(t, tp.Append(events...))
			marked(t, tp.now.Load())
		}
	})
}

// marked checks the marks of a view against all that there could be.
func marked(t *rapid.T, v *view) {
	require.Equal(t, v.head.offset-v.first.offset, int64(len(v.bytes)))
	require.LessOrEqual(t, len(v.marks), len(v.bytes)/markEvery+1)
	at, marks := v.first, v.marks
	for m := range v.behind(v.first) {
		if len(marks) > 0 && m == marks[0] {
			at, marks = m, marks[1:]
		}
		require.Less(t, m.offset-at.offset, int64(markEvery))
	}
	require.Empty(t, marks)
}

package worker_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

func TestEmitChecksItsName(t *testing.T) {
	var s sink
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		for _, name := range []string{"", "message", "error", "open", "job.x", "job.succeeded", "job.progress", "stream.end", "1a", "a b", "a\n", strings.Repeat("a", 65)} {
			require.ErrorIs(t, task.Emit(name, 1), worker.ErrName, name)
		}
		require.NoError(t, task.Emit("jobs.done", json.RawMessage("{ \"a\":\n1 }")))
		require.NoError(t, task.Emit("A-b_c.9", nil))
		require.Error(t, task.Emit("fine", func() {}))
		require.Error(t, task.Emit("fine", json.RawMessage("{")))
		return nil, nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{`{"a":1}`}, s.data("jobs.done"))
	require.Equal(t, []string{`{}`}, s.data("A-b_c.9"))
	require.Len(t, s.stored(), 2)
}

// nested returns JSON of so many levels.
func nested(n int) json.RawMessage {
	return json.RawMessage(strings.Repeat("[", n) + strings.Repeat("]", n))
}

func TestEmitLeavesOutWhatIsTooLargeAndSaysSo(t *testing.T) {
	var s sink
	limit := worker.DefaultLimits.Event
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		require.NoError(t, task.Emit("fits", strings.Repeat("x", limit-2)))
		require.ErrorIs(t, task.Emit("large", strings.Repeat("x", limit-1)), job.ErrTooLarge)
		require.NoError(t, task.Emit("fits", nested(job.MaxDepth)))
		require.ErrorIs(t, task.Emit("deep", nested(job.MaxDepth+1)), job.ErrTooLarge)
		return nil, nil
	})
	require.NoError(t, err)
	require.Len(t, s.of("fits"), 2)
	require.Len(t, s.stored(), 4)
	logs := s.logs(t)
	require.Len(t, logs, 2)
	require.Contains(t, logs[1].Line, "deep is nested deeper than 64")
	require.Equal(t, "millstream", logs[0].Stream)
	require.Contains(t, logs[0].Line, "large of 262145 bytes")
}

func TestProgressRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for _, done := range []float64{math.Inf(-1), 1, 5, 3, 5, math.NaN(), math.Inf(1), math.Inf(-1), 4.9, 6} {
				task.Progress(done, math.Inf(1), "")
				time.Sleep(time.Second)
			}
			task.Progress(7, -1, strings.Repeat("é", 3000))
			return nil, nil
		})
		require.NoError(t, err)
		data := s.data(job.Progress)
		require.Equal(t, []string{`{"progress":1}`, `{"progress":5}`, `{"progress":5}`, `{"progress":6}`}, data[:4])
		require.Len(t, data, 5)
		require.Equal(t, `{"progress":7,"message":"`+strings.Repeat("é", 2048)+`…"}`, data[4])
	})
}

func TestProgressComesAtItsRateAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		start := time.Now()
		var at []time.Duration
		s.onRecord = func(job.Record) { at = append(at, time.Since(start)) }
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 1000 { // 1 s in all
				task.Progress(float64(i), 1000, "")
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			require.Len(t, at, 11, "the trailing edge comes without a further call")
			task.Progress(1000, 1000, "")
			task.Progress(1001, 0, "over")
			return nil, nil
		})
		require.NoError(t, err)
		data := s.data(job.Progress)
		require.Equal(t, `{"progress":0,"total":1000}`, data[0], "the first at once")
		require.Equal(t, `{"progress":999,"total":1000}`, data[10])
		require.Equal(t, `{"progress":1001,"message":"over"}`, data[len(data)-1])
		for i, d := range at[:11] {
			require.Equal(t, time.Duration(i)*100*time.Millisecond, d)
		}
	})
}

func TestProgressThatWaitsForTheStoreIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: 10 * time.Second}
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 20 {
				task.Progress(float64(i), 0, "")
				task.Log("notes", "between")
				time.Sleep(200 * time.Millisecond)
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{`{"progress":0}`, `{"progress":19}`}, s.data(job.Progress))
		require.Equal(t, s.of(job.Progress)[1], s.stored()[len(s.stored())-2], "where it was said")
	})
}

func TestLongLogLinesAreCut(t *testing.T) {
	var s sink
	long := strings.Repeat("é", 100_000)
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		task.Log(strings.Repeat("s", 100), long)
		task.Log("ctl", strings.Repeat("\x01", 64<<10))
		task.Log("bad", "a\xffb")
		return nil, nil
	})
	require.NoError(t, err)
	logs := s.logs(t)
	var got strings.Builder
	for _, l := range logs[:4] {
		require.Equal(t, strings.Repeat("s", 64)+"…", l.Stream)
		require.LessOrEqual(t, len(l.Line), 64<<10)
		got.WriteString(l.Line)
	}
	require.Equal(t, long, got.String())
	require.Equal(t, strings.Repeat("\uFFFD", 64<<10), logs[4].Line, "escaped they would not fit an event")
	require.Equal(t, "a\uFFFDb", logs[5].Line)
	for _, r := range s.stored() {
		require.LessOrEqual(t, len(r.Data), worker.DefaultLimits.Event)
	}
}

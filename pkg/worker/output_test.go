package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// chunks returns the chunks of the output as they are in the events.
func (s *sink) chunks() []string {
	var all []string
	for _, d := range s.data(job.Output) {
		_, d, _ = strings.Cut(d, `"chunk":`)
		all = append(all, strings.TrimSuffix(d, "}"))
	}
	return all
}

func TestOutputGoesByWholeLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for _, p := range []string{"one\ntw", "o\nthr", "ee\n", "<b>&\n"} {
				_, _ = io.WriteString(task, p)
				synctest.Wait()
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{`"one\n"`, `"two\n"`, `"three\n"`, `"<b>&\n"`}, s.chunks())
	})
}

func TestPromptAppearsWithoutNewline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			_, _ = io.WriteString(task, "name? \xe2\x82")
			time.Sleep(49 * time.Millisecond)
			synctest.Wait()
			require.Empty(t, s.stored())
			time.Sleep(time.Millisecond)
			synctest.Wait()
			require.Equal(t, []string{`"name? "`}, s.chunks(), "half a rune is held for the rest of it")
			_, _ = io.WriteString(task, "\xac")
			time.Sleep(time.Hour / 5)
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{`"name? "`, `"€"`}, s.chunks())
	})
}

func TestSteadyDotsAppear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for range 100 {
				_, _ = io.WriteString(task, ".")
				time.Sleep(10 * time.Millisecond)
			}
			synctest.Wait()
			require.InDelta(t, 18, len(s.stored()), 3, "the hold runs from the first byte, not from the last")
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, strings.Repeat(".", 100), string(s.output(t)))
	})
}

func TestOrderOfOutputAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: 10 * time.Millisecond}
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 20 {
				fmt.Fprintf(task, "step %d", i)
				if err := task.Emit("step", i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.stored(), 40)
		for i, r := range s.stored() {
			want := fmt.Sprintf(`{"index":%d,"chunk":"step %d"}`, i/2, i/2)
			if i%2 == 1 {
				want = fmt.Sprint(i / 2)
			}
			require.Equal(t, want, string(r.Data))
		}
	})
}

func TestOutputIsJoinedWhileTheStoreIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: time.Second}
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 1000 {
				fmt.Fprintf(task, "line %d\n", i)
				synctest.Wait()
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.stored(), 2, "the first at once, all others in one")
		require.Equal(t, 1000, bytes.Count(s.output(t), []byte("\n")))
	})
}

func TestJoinedOutputIsCutBetweenLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: time.Second}
		line := strings.Repeat("x", 40_000) + "\n"
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for range 6 {
				_, _ = io.WriteString(task, line)
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Equal(t, strings.Repeat(line, 6), string(s.output(t)))
		for _, c := range s.chunks() {
			require.True(t, strings.HasSuffix(c, `\n"`))
		}
	})
}

func TestLogsAreNotJoinedWithoutNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: time.Second}
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for range 100 {
				task.Log("notes", "a line")
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.stored(), 100)
		require.LessOrEqual(t, s.calls, 2)
	})
}

func TestOutputWithoutNewlinesIsCutBetweenRunes(t *testing.T) {
	var s sink
	in := strings.Repeat("€", 100_000)
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		_, err := io.WriteString(task, in)
		return nil, err
	})
	require.NoError(t, err)
	require.Equal(t, in, string(s.output(t)))
	for _, d := range s.data(job.Output) {
		require.NotContains(t, d, "base64")
	}
}

func TestControlCharactersFitTheirEvents(t *testing.T) {
	var s sink
	in := bytes.Repeat([]byte{1}, 300<<10)
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		_, err := task.Write(in)
		return nil, err
	})
	require.NoError(t, err)
	require.Equal(t, in, s.output(t))
}

// script is what a worker writes: the bytes, where the writes end, and how long it
// pauses behind each.
type script struct {
	in     []byte
	pieces [][]byte
	pauses []time.Duration
}

var bytesOf = rapid.OneOf(
	rapid.SliceOfN(rapid.Byte(), 0, 200),
	rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("a\n\r\x01\"\\<é€😀\u2028")), 0, 200, -1), func(s string) []byte { return []byte(s) }),
	rapid.Map(rapid.IntRange(0, 200_000), func(n int) []byte { return bytes.Repeat([]byte("0123456789é\xff\n"), n/13) }),
	rapid.Map(rapid.IntRange(0, 200_000), func(n int) []byte { return bytes.Repeat([]byte("😀"), n/4) }),
)

func drawScript(t *rapid.T) script {
	var s script
	for _, part := range rapid.SliceOfN(bytesOf, 0, 6).Draw(t, "parts") {
		s.in = append(s.in, part...)
	}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	longest := rapid.SampledFrom([]int{1, 3, 100, 4096, 100_000}).Draw(t, "longest write")
	for rest := s.in; len(rest) > 0; {
		n := min(len(rest), 1+random.IntN(longest))
		if len(s.pieces) > 2000 {
			n = len(rest)
		}
		s.pieces, rest = append(s.pieces, rest[:n]), rest[n:]
		s.pauses = append(s.pauses, time.Duration(random.IntN(4)/3*random.IntN(100))*time.Millisecond)
	}
	return s
}

func (sc script) play(_ context.Context, task *worker.Task) (any, error) {
	for i, p := range sc.pieces {
		if _, err := task.Write(p); err != nil {
			return nil, err
		}
		if i%5 == 0 {
			task.Log("notes", "between")
		}
		if sc.pauses[i] > 0 {
			time.Sleep(sc.pauses[i])
		}
	}
	return worker.Output{}, nil
}

// However it is written, the chunks are the bytes.
func TestOutputIsTheBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sc := drawScript(rt)
		s := sink{delay: time.Duration(rapid.SampledFrom([]int{0, 0, 7, 200}).Draw(rt, "delay ms")) * time.Millisecond}
		s.before.events = rapid.SampledFrom([]int{0, 4990, 9000}).Draw(rt, "events before")
		var out worker.Outcome
		var err error
		synctest.Test(t, func(t *testing.T) { out, err = s.run(t, sc.play) })
		require.NoError(rt, err)
		require.True(rt, bytes.Equal(sc.in, s.output(rt)))
		requireResult(rt, out, sc.in, "text/plain; charset=utf-8")
		require.True(rt, out.Record.Private.Result.Output)
	})
}

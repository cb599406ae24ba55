package worker_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// every calls f each d until the context ends, or for the given time.
func every(ctx context.Context, d, length time.Duration, f func(i int)) {
	for i := range int(length / d) {
		if ctx.Err() != nil {
			return
		}
		f(i)
		time.Sleep(d)
	}
}

// A line each millisecond for a quarter of an hour fits the budget, and all of it
// is there.
func TestLinesForAQuarterOfAnHourFitTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		hash := sha256.New()
		longest := time.Duration(0)
		last := time.Now()
		s.onRecord = func(job.Record) {
			longest = max(longest, time.Since(last))
			last = time.Now()
		}
		_, err := s.run(t, func(ctx context.Context, task *worker.Task) (any, error) {
			every(ctx, time.Millisecond, 15*time.Minute-time.Second, func(i int) {
				fmt.Fprintf(io.MultiWriter(task, hash), "line %d\n", i)
			})
			return nil, nil
		})
		require.NoError(t, err)
		require.LessOrEqual(t, len(s.stored()), 10_000)
		require.Greater(t, len(s.stored()), 6_000, "the budget is there to be used")
		require.Less(t, longest, time.Second, "no reader waits long for the next event")
		sum := sha256.Sum256(s.output(t))
		require.Equal(t, hex.EncodeToString(hash.Sum(nil)), hex.EncodeToString(sum[:]))
		require.Empty(t, s.of(job.Log))
	})
}

// All that can be joined at once, until the timeout, and again by further attempts.
func TestEverythingAtOnceFitsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		a := s.attempt("")
		a.Job.MaxAttempts = 3
		for a.Job.Attempt = 1; a.Job.Attempt <= 3; a.Job.Attempt++ {
			before := len(s.stored())
			_, err := s.runAttempt(t, func(ctx context.Context, task *worker.Task) (any, error) {
				every(ctx, 20*time.Millisecond, 20*time.Minute, func(i int) {
					fmt.Fprintf(task, "line %d\n", i)
					task.Log("stderr", "a line")
					task.Log(fmt.Sprint("stream ", i%3), "a line")
					task.Progress(float64(i), 0, "")
				})
				return nil, nil
			}, a, worker.Options{})
			requireProblem(t, err, "attempt-timeout", true)
			require.Greater(t, len(s.stored()), before+500, "a later attempt has its share")
		}
		require.LessOrEqual(t, len(s.stored()), 10_000)
	})
}

func TestFastOutputIsNotSlowedDownByTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.events = 9_990 // by other attempts: an event each minute and a half
		start := time.Now()
		line := strings.Repeat("x", 999) + "\n"
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for range 20_000 {
				_, _ = io.WriteString(task, line)
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		require.Len(t, s.output(t), 20_000_000)
	})
}

func TestLogsAreJoinedUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.events = 5_000
		var want []string
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 10_000 {
				want = append(want, fmt.Sprint("line ", i))
				task.Log("stderr", want[i])
				fmt.Fprintln(task, "output")
				time.Sleep(time.Millisecond)
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Less(t, len(s.stored()), 200)
		var got []string
		for _, l := range s.logs(t) {
			got = append(got, strings.Split(l.Line, "\n")...)
		}
		require.Equal(t, want, got)
		require.Len(t, s.output(t), 70_000)
	})
}

// Events that cannot be joined go on at their own pace, behind the limit of their
// number too: to say many takes no longer than that, and never the whole timeout.
func TestOwnEventsGoBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		start := time.Now()
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 20_000 {
				if err := task.Emit("tick", i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.InDelta(t, 96, time.Since(start).Seconds(), 1, "half of the limit at once, and then more than a hundred a second")
		require.Len(t, s.stored(), 20_000)
		for i, d := range s.data("tick") {
			require.Equal(t, fmt.Sprint(i), d)
		}
	})
}

// An attempt that has little time has it for its work, however much that says.
func TestOwnEventsDoNotUseUpTheTime(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, time.Minute, 15 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var s sink
			a := s.attempt("")
			a.Job.Request.Timeout = timeout
			_, err := s.runAttempt(t, func(_ context.Context, task *worker.Task) (any, error) {
				for i := range 100_000 {
					_ = task.Emit("tick", i)
				}
				return nil, nil
			}, a, worker.Options{})
			require.NoError(t, err)
			require.Greater(t, len(s.data("tick")), 60_000)
		})
	}
}

// There is a last event all the same: what is behind it is left out, which a
// job.log says, and the attempt goes on. Its output, which may be its result, stays
// whole.
func TestOwnEventsHaveAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.events = 70_000
		out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for task.Emit("tick", 1) == nil {
			}
			for range 100 {
				require.ErrorIs(t, task.Emit("tick", 1), job.ErrTooLarge)
				task.Log("stderr", "a line")
			}
			_, err := io.WriteString(task, "all of it")
			return worker.Output{}, err
		})
		require.NoError(t, err)
		events, _ := s.Used()
		require.InDelta(t, 10_000+64<<10, events, 100)
		require.Len(t, s.logs(t), 1)
		require.Contains(t, s.logs(t)[0].Line, "far more events")
		require.Equal(t, `{"result":"all of it"}`, string(out.Record.Data))
	})
}

// Text does not pay for a storm of events that came before it or that goes on
// beside it: whoever watches sees it move.
func TestTextMovesBesideOwnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		last, longest := time.Now(), time.Duration(0)
		s.onRecord = func(r job.Record) {
			if r.Type == job.Output {
				longest = max(longest, time.Since(last))
				last = time.Now()
			}
		}
		_, err := s.run(t, func(ctx context.Context, task *worker.Task) (any, error) {
			for i := range 12_000 {
				if i%2 == 0 {
					fmt.Fprintln(task, i)
				}
				if err := task.Emit("tick", i); err != nil {
					return nil, err
				}
			}
			every(ctx, time.Second, 10*time.Minute, func(i int) { fmt.Fprintln(task, i) })
			return nil, nil
		})
		require.NoError(t, err)
		require.Less(t, longest, 10*time.Second)
	})
}

// Output of one goroutine is not joined across the event that another waits with.
func TestJoiningKeepsTheOrderAroundOwnEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.events = 9_000
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			_, _ = io.WriteString(task, "at once\n")
			synctest.Wait()
			_, _ = io.WriteString(task, "before\n")
			go func() { _ = task.Emit("own", 1) }()
			synctest.Wait()
			_, _ = io.WriteString(task, "after\n")
			task.Progress(1, 0, "")
			_, _ = io.WriteString(task, "joined\n")
			return nil, nil
		})
		require.NoError(t, err)
		var types []string
		for _, r := range s.stored() {
			types = append(types, string(r.Type))
		}
		require.Equal(t, []string{"job.output", "job.output", "own", "job.output", "job.progress"}, types)
		require.Equal(t, []string{`"at once\n"`, `"before\n"`, `"after\njoined\n"`}, s.chunks())
	})
}

// Lines that cannot be joined, each has a stream of its own, are like such events.
func TestLogsOfManyStreamsGoBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		start := time.Now()
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 20_000 {
				task.Log(fmt.Sprint("stream ", i), "a line")
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.logs(t), 20_000)
		require.InDelta(t, 96, time.Since(start).Seconds(), 1)
	})
}

// The events of the first half are free, also when they come all at once.
func TestBurstOfEventsIsNotChargedForTheFirstHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: time.Second}
		start := time.Now()
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for i := range 5_003 {
				if err := task.Emit("tick", i); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.stored(), 5_003)
		require.Less(t, time.Since(start), 10*time.Second)
	})
}

func TestEmitIsReleasedWhenTheAttemptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.events = 9_999
		ctx, cancel := context.WithCancel(t.Context())
		const soon = 5 * time.Millisecond // before the second one's turn
		time.AfterFunc(soon, cancel)
		start := time.Now()
		_, err := worker.Run(ctx, func(_ context.Context, task *worker.Task) (any, error) {
			_ = task.Emit("first", 1)
			return nil, task.Emit("second", 2)
		}, s.attempt(""), worker.Options{})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, soon, time.Since(start))
		require.Len(t, s.stored(), 2)
	})
}

func TestSlowStoreHoldsUpWhoeverTalks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{delay: time.Second}
		start := time.Now()
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			piece := []byte(strings.Repeat("x", 32<<10))
			for range 320 { // 10 MiB at 256 KiB a second
				if _, err := task.Write(piece); err != nil {
					return nil, err
				}
			}
			require.InDelta(t, 35, time.Since(start).Seconds(), 4, "only what may be pending is not stored yet")
			return nil, nil
		})
		require.NoError(t, err)
		require.Len(t, s.output(t), 10<<20)
	})
}

func TestOutputIsCutAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{}
		s.before.bytes = 63 << 20
		line := strings.Repeat("€", 33) + "\n"
		all := strings.Repeat(line, 20_000)
		out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			for range 20_000 {
				n, err := io.WriteString(task, line)
				require.NoError(t, err)
				require.Len(t, line, n)
			}
			task.Log("notes", "not stored")
			require.ErrorIs(t, task.Emit("own", 1), job.ErrTooLarge)
			task.Progress(1, 2, "numbers still pass")
			return worker.Output{}, nil
		})
		require.NoError(t, err)
		got := string(s.output(t))
		require.InDelta(t, 1<<20, len(got), 32<<10)
		require.True(t, strings.HasPrefix(all, got))
		for _, d := range s.data(job.Output) {
			require.NotContains(t, d, "base64")
		}
		require.Len(t, s.logs(t), 1)
		require.Contains(t, s.logs(t)[0].Line, "output is cut here")
		require.Equal(t, []string{`{"progress":1,"total":2}`}, s.data(job.Progress))

		r := requireResult(t, out, []byte(got), "text/plain; charset=utf-8")
		require.True(t, r.Truncated)
		require.Contains(t, string(out.Record.Data), `"truncated":true`)
	})
}

// Behind a cut nothing follows, not even what would fit.
func TestCutOutputHasNoHole(t *testing.T) {
	for offset := range int64(3) {
		synctest.Test(t, func(t *testing.T) {
			s := sink{delay: time.Second}
			s.before.bytes = 64<<20 - 50_000 - offset
			in := strings.Repeat("€", 20_000) + "aaa"
			_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
				require.ErrorIs(t, task.Emit("large", strings.Repeat("x", 100_000)), job.ErrTooLarge)
				_, _ = io.WriteString(task, in[:60_000])
				for i := range 3 {
					_, _ = io.WriteString(task, in[60_000+i:][:1])
				}
				return nil, nil
			})
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(in, string(s.output(t))))
			require.Len(t, s.logs(t), 1)
		})
	}
}

func TestCutOutputIsNotInline(t *testing.T) {
	s := sink{}
	s.before.bytes = 64<<20 - 10
	out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		_, _ = io.WriteString(task, "twelve bytes")
		return worker.Output{}, nil
	})
	require.NoError(t, err)
	require.Equal(t, "twelve byt", string(s.output(t)))
	require.Contains(t, string(out.Record.Data), `"href"`)
	require.True(t, out.Record.Private.Result.Truncated)
}

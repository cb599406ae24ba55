package worker_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

func TestRunStoresAllBeforeItReturns(t *testing.T) {
	var s sink
	out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		task.Progress(1, 2, "half")
		_, _ = io.WriteString(task, "a line\nno line")
		task.Log("notes", "a note\r\n")
		require.NoError(t, task.Emit("page.done", map[string]int{"page": 1}))
		task.Progress(2, 2, "")
		return "done", nil
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"result":"done"}`, string(out.Record.Data))
	require.Equal(t, "a line\nno line", string(s.output(t)))
	require.Equal(t, []logLine{{"notes", "a note"}}, s.logs(t))
	require.Equal(t, []string{`{"page":1}`}, s.data("page.done"))
	require.Equal(t, `{"progress":2,"total":2}`, s.data(job.Progress)[len(s.of(job.Progress))-1])
	for _, r := range s.stored() {
		require.Zero(t, r.Seq, "the sink numbers")
	}
}

func TestTaskTellsItsAttempt(t *testing.T) {
	var s sink
	a := s.attempt(`{"n":3}`)
	a.InputType = "application/json"
	a.Job.Attempt, a.Job.MaxAttempts = 2, 3
	_, err := s.runAttempt(t, func(_ context.Context, task *worker.Task) (any, error) {
		require.Equal(t, a.Job.ID, task.ID())
		require.Equal(t, "test", task.Kind())
		require.Equal(t, 2, task.Attempt())
		require.Equal(t, "application/json", task.InputType())
		require.Equal(t, `{"n":3}`, string(task.Input()))
		var in struct{ N int }
		require.NoError(t, task.Bind(&in))
		require.Equal(t, 3, in.N)
		var bad struct{ N string }
		return nil, task.Bind(&bad)
	}, a, worker.Options{})
	requireProblem(t, err, "invalid-input", false)
}

type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("boom") }

type badError struct{ text string }

func (b *badError) Error() string { return b.text }

func TestPanicFailsTheAttemptAndStaysInTheLog(t *testing.T) {
	for name, end := range map[string]func() (any, error){
		"of the function":        func() (any, error) { panic("boom") },
		"of the result":          func() (any, error) { return bomb{}, nil },
		"of an error, when read": func() (any, error) { return nil, (*badError)(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			core, logged := observer.New(zapcore.DebugLevel)
			var s sink
			_, err := s.runAttempt(t, func(_ context.Context, task *worker.Task) (any, error) {
				task.Log("notes", "last words")
				return end()
			}, s.attempt(""), worker.Options{Log: zap.New(core)})
			p := requireProblem(t, err, "worker-panic", true)
			require.Regexp(t, "^panic: (.*boom|.*nil pointer dereference)$", p.Detail)
			require.Len(t, s.logs(t), 1, "what was said before is stored")
			require.Len(t, logged.All(), 1)
			require.Contains(t, string(logged.All()[0].ContextMap()["stack"].(string)), "run_test.go")
		})
	}
}

// A function that ends its goroutine ends its attempt, at once, and whoever runs
// the next one goes on.
func TestGoexitFailsTheAttempt(t *testing.T) {
	core, logged := observer.New(zapcore.DebugLevel)
	var s sink
	_, err := s.runAttempt(t, func(_ context.Context, task *worker.Task) (any, error) {
		task.Log("notes", "last words")
		runtime.Goexit()
		return nil, nil
	}, s.attempt(""), worker.Options{Log: zap.New(core)})
	p := requireProblem(t, err, "worker-panic", true)
	require.Equal(t, "the function called runtime.Goexit", p.Detail)
	require.Len(t, s.logs(t), 1, "what was said before is stored")
	require.Len(t, logged.All(), 1)
}

func TestErrorsPassAsTheyAre(t *testing.T) {
	var s sink
	plain := errors.New("plain")
	_, err := s.run(t, func(context.Context, *worker.Task) (any, error) { return nil, plain })
	require.Equal(t, plain, err)
}

// untilEnd works until its context ends, and then says that it is done.
func untilEnd(ctx context.Context, task *worker.Task) (any, error) {
	<-ctx.Done()
	task.Log("notes", "saved")
	return "not really", nil
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		start := time.Now()
		_, err := s.run(t, untilEnd)
		p := requireProblem(t, err, "attempt-timeout", true)
		require.Contains(t, p.Detail, "15m0s")
		require.Equal(t, 15*time.Minute, time.Since(start))
		require.Len(t, s.logs(t), 1, "what is said on the way out is stored")
	})
}

func TestTimeoutHasADefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		a := s.attempt("")
		a.Job.Request = nil
		start := time.Now()
		_, err := s.runAttempt(t, untilEnd, a, worker.Options{})
		requireProblem(t, err, "attempt-timeout", true)
		require.Equal(t, job.DefaultTimeout, time.Since(start))
	})
}

func TestEndFromOutside(t *testing.T) {
	canceled := errors.New("somebody asked")
	never := job.Problemf("outcome-unknown", "no telling")
	for _, tt := range []struct {
		name  string
		fnErr error
		want  []error
	}{
		{"a result", nil, []error{canceled}},
		{"its own error", context.Canceled, []error{canceled}},
		{"a problem that may be retried", &job.Problem{Type: "/problems/exit-status", Retryable: true}, []error{canceled}},
		{"a problem that may not", never, []error{never, canceled}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s sink
			ctx, cancel := context.WithCancelCause(t.Context())
			out, err := worker.Run(ctx, func(ctx context.Context, _ *worker.Task) (any, error) {
				cancel(canceled)
				<-ctx.Done()
				return "result", tt.fnErr
			}, s.attempt(""), worker.Options{})
			for _, want := range tt.want {
				require.ErrorIs(t, err, want)
			}
			require.Equal(t, len(tt.want) > 1, errors.As(err, new(*job.Problem)))
			require.Zero(t, out)
		})
	}
}

func TestLostLeaseEndsTheAttempt(t *testing.T) {
	var s sink
	s.refuse = func(r job.Record) error {
		if r.Type == "third" {
			return job.ErrLeaseLost
		}
		return nil
	}
	_, err := s.run(t, func(ctx context.Context, task *worker.Task) (any, error) {
		require.NoError(t, task.Emit("first", nil))
		_ = task.Emit("third", nil)
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), job.ErrLeaseLost)
		require.ErrorIs(t, task.Emit("fourth", nil), job.ErrLeaseLost)
		_, err := task.Write([]byte("x"))
		require.ErrorIs(t, err, job.ErrLeaseLost)
		return nil, nil
	})
	require.ErrorIs(t, err, job.ErrLeaseLost)
	require.Len(t, s.stored(), 1)
}

func TestLostLeaseAtTheLastWord(t *testing.T) {
	s := sink{refuse: func(job.Record) error { return job.ErrLeaseLost }}
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		task.Log("notes", "x")
		return "done", nil
	})
	require.ErrorIs(t, err, job.ErrLeaseLost)
}

func TestSilentStoreDoesNotHoldAnEndedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{hang: true}
		start := time.Now()
		_, err := s.run(t, func(ctx context.Context, task *worker.Task) (any, error) {
			_, err := task.Write(make([]byte, 4<<20)) // more than is ever pending
			return nil, err
		})
		requireProblem(t, err, "storage-unavailable", true)
		require.Equal(t, 15*time.Minute+30*time.Second, time.Since(start))
	})
}

func TestTaskIsMuteAfterTheEnd(t *testing.T) {
	var s sink
	var kept *worker.Task
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		kept = task
		return nil, nil
	})
	require.NoError(t, err)
	require.Error(t, kept.Emit("late", nil))
	_, err = kept.Write([]byte("late"))
	require.Error(t, err)
	kept.Log("notes", "late")
	kept.Progress(1, 0, "")
	require.Empty(t, s.stored())
}

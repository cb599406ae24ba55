package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// Output is stored in the order it was written, whatever else is said meanwhile:
// full pieces go ahead of the pace, but not of earlier pieces of the same stream.
func TestOrderUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		s.before = used{events: 5100}
		var want strings.Builder
		_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			write := func(text string) {
				want.WriteString(text)
				_, _ = task.Write([]byte(text))
			}
			write("start\n")
			time.Sleep(10 * time.Millisecond) // stored; the next has to wait for the pace
			write("A\n")
			done := make(chan struct{})
			go func() { _ = task.Emit("page.done", 1); close(done) }()
			synctest.Wait()
			for range 3000 {
				write(strings.Repeat("B", 60) + "\n")
			}
			<-done
			return worker.Output{}, nil
		})
		require.NoError(t, err)
		require.Equal(t, want.String(), string(s.output(t)))
	})
}

// Whoever waits for the pace does not hold up the end of the attempt.
func TestCancelUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		s.before = used{events: 9990}
		asked := errors.New("asked to stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		const soon = 55 * time.Millisecond // before the turn of all that wait
		time.AfterFunc(soon, func() { cancel(asked) })
		a := s.attempt("")
		a.Job.Attempt, a.Job.MaxAttempts = 1, 1
		big := strings.Repeat("x", 200<<10)
		begin := time.Now()
		_, err := worker.Run(ctx, func(ctx context.Context, task *worker.Task) (any, error) {
			done := make(chan struct{})
			for range 12 {
				go func() {
					for ctx.Err() == nil && task.Emit("big", big) == nil {
					}
					done <- struct{}{}
				}()
			}
			for range 12 {
				<-done
			}
			return nil, nil
		}, a, worker.Options{})
		require.ErrorIs(t, err, asked)
		require.Equal(t, soon, time.Since(begin), "at once")
	})
}

// A child that left the group, and its environment, and goes on talking is none of
// ours: the attempt ends with its command.
func TestExecTalkingEscapee(t *testing.T) {
	var s sink
	a := s.attempt("")
	a.Job.Request = &job.Request{Timeout: 30 * time.Second}
	e := worker.Exec{Command: []string{"sh", "-c", `setsid env -u MILLSTREAM_RUN sh -c 'for i in $(seq 100); do echo x; sleep 0.5; done' & echo done`}}
	out, err := worker.Run(t.Context(), e.Func(), a, worker.Options{})
	require.NoError(t, err, "or else it ran into its timeout")
	require.Equal(t, job.Succeeded, out.Record.Type)
}

package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Limits bound what one job may take. A zero stands for the default.
type Limits struct {
	Events       int     // of a job, all its attempts together: from half of it on they are paced
	Bytes        int64   // of a job's events: more output is cut
	Event        int     // bytes of one event's data
	ProgressRate float64 // job.progress a second
	Result       int64   // bytes of a result
}

// DefaultLimits are the limits of an attempt, each with its reason.
var DefaultLimits = Limits{
	Events:       10_000,    // what a page can still show
	Bytes:        64 << 20,  // a job is not a file transfer
	Event:        256 << 10, // four of them fit a NATS message with its default limit
	ProgressRate: 10,        // faster than an eye
	Result:       1 << 30,   // a tenth of the store: one runaway command does not fill it
}

// Options say how an attempt runs.
type Options struct {
	Limits Limits
	Log    *zap.Logger // what clients must not see: stacks, paths; nil: nowhere
}

func (o Options) withDefaults() Options {
	l, d := &o.Limits, DefaultLimits
	l.Events = cmp.Or(l.Events, d.Events)
	l.Bytes = cmp.Or(l.Bytes, d.Bytes)
	l.Event = cmp.Or(l.Event, d.Event)
	l.ProgressRate = cmp.Or(l.ProgressRate, d.ProgressRate)
	l.Result = cmp.Or(l.Result, d.Result)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Run runs fn as one attempt and returns when all it said is stored. The error of
// an attempt that ctx or the timeout ended is the cause of that: whatever such a
// function returns, it did not finish. If it says that it must not be repeated (a
// *job.Problem that is not Retryable), the error is both.
func Run(ctx context.Context, fn Func, a Attempt, opt Options) (Outcome, error) {
	opt = opt.withDefaults()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	timeout := a.timeout()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timedOut(timeout))
	defer cancel()

	t := newTask(ctx, fail, a, opt)
	defer t.out.seal()
	if err := t.resume(ctx); err != nil {
		return Outcome{}, err
	}
	v, err := guard(t, func() (any, error) { return fn(ctx, t) })
	ended := context.Cause(ctx)
	s, stands := v.(settled)
	if stands {
		v, ended = s.value, nil
	}
	if cerr := t.out.close(); cerr != nil {
		ended, err = cerr, errors.Join(err, s.lost)
	}
	if ended != nil {
		return Outcome{}, interrupted(err, ended)
	}
	if err != nil {
		return Outcome{}, err
	}
	return guard(t, func() (Outcome, error) { return t.outcome(v) }) // the value may encode itself
}

// settled is a result that stands even if the attempt's time ran out meanwhile,
// because the work may not be done a second time.
type settled struct {
	value any
	lost  error // what the attempt comes to if its events cannot be stored; nil: that is no worse than usual
}

func (a *Attempt) timeout() time.Duration {
	if q := a.Job.Request; q != nil && q.Timeout > 0 {
		return q.Timeout
	}
	return job.DefaultTimeout
}

func timedOut(after time.Duration) error {
	p := job.Problemf("attempt-timeout", "the attempt took longer than %s", after)
	p.Retryable = true
	return p
}

// interrupted returns the error of an attempt that was ended from outside.
func interrupted(err, cause error) error {
	var p *job.Problem
	if errors.Is(err, cause) || !errors.As(err, &p) || p.Retryable {
		return cause
	}
	return fmt.Errorf("%w: %w", p, cause)
}

// guard calls code of the worker's. What ends its goroutine, a panic or
// runtime.Goexit, ends the attempt, not the process and not the goroutine of who
// called Run.
func guard[T any](t *Task, f func() (T, error)) (v T, err error) {
	err = errGoexit // if nothing else is returned
	done := make(chan struct{})
	go func() {
		defer close(done)
		v, err = recovered(t, f)
	}()
	<-done
	if err == errGoexit {
		t.log.Error("worker ended its goroutine")
	}
	return v, err
}

func recovered[T any](t *Task, f func() (T, error)) (v T, err error) {
	defer func() {
		if r := recover(); r != nil {
			t.log.Error("worker panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			var none T
			v, err = none, panicked("panic: %.1000v", fmt.Sprint(r))
		}
	}()
	if v, err = f(); err != nil {
		_ = err.Error() // an error that panics, as a nil pointer may, does it here
	}
	return v, err
}

var errGoexit error = panicked("the function called runtime.Goexit")

func panicked(format string, args ...any) *job.Problem {
	p := job.Problemf("worker-panic", format, args...)
	p.Retryable = true
	return p
}

package worker_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

const life = 30 * time.Second

// office is a Desk with one attempt, which begins when somebody asks for work.
type office struct {
	*sink
	*worker.Desk
	attempt worker.Attempt
	ctx     context.Context // of the attempt
	cancel  context.CancelCauseFunc
	earlier []job.Record
	ended   chan struct{}
	out     worker.Outcome
	err     error

	mu       sync.Mutex
	job      job.Job
	finished bool
	taken    bool
}

func open(t *testing.T) *office {
	o := &office{sink: new(sink), ended: make(chan struct{})}
	o.attempt = o.sink.attempt(`{"n":1}`)
	o.attempt.InputType, o.attempt.Hold, o.job = "application/json", o, o.attempt.Job
	o.ctx, o.cancel = context.WithCancelCause(t.Context())
	o.Desk = worker.NewDesk(o.take, o.lookup)
	return o
}

// take hands the attempt out, once.
func (o *office) take(ctx context.Context, _ string, _ ...string) (job.ID, uint64, error) {
	o.mu.Lock()
	taken := o.taken
	o.taken = true
	o.mu.Unlock()
	if taken {
		<-ctx.Done()
		return "", 0, job.ErrNotFound
	}
	go o.run()
	return o.job.ID, o.job.Lease, nil
}

// run is the attempt, and what the broker makes of its end.
func (o *office) run() {
	o.out, o.err = worker.Run(o.ctx, o.Func(life, 15*time.Second), o.attempt, worker.Options{})
	o.mu.Lock()
	if o.finished {
		o.job.Finish = o.job.Lease
	}
	o.job.Lease = 0
	o.mu.Unlock()
	close(o.ended)
}

func (o *office) lookup(context.Context, job.ID) (job.Job, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.job, nil
}

func (o *office) Earlier(_ context.Context, each func(*job.Record)) error {
	for i := range o.earlier {
		each(&o.earlier[i])
	}
	return nil
}

func (o *office) Finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.finished = true
}

func (o *office) Ended() <-chan struct{} { return o.ended }

// lease takes the attempt.
func (o *office) lease(t *testing.T) job.Lease {
	t.Helper()
	leases, err := o.Lease(t.Context(), time.Second, "w", 2, "test")
	require.NoError(t, err)
	require.Len(t, leases, 1)
	return leases[0]
}

func said(typ job.Type, data string) job.Said {
	return job.Said{Type: typ, Data: json.RawMessage(data)}
}

func (o *office) say(t *testing.T, all ...job.Said) (job.Standing, error) {
	return o.Report(t.Context(), o.attempt.Job.ID, lease, all)
}

// desk runs a test in a bubble, in which 30 s of a lease take no time.
func desk(t *testing.T, test func(t *testing.T, o *office)) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		defer o.cancel(nil)
		test(t, o)
		o.cancel(job.ErrDraining)
		<-o.ended
		require.Empty(t, o.wrong)
	})
}

func TestWhatAPullWorkerSaysIsStoredBeforeTheAnswer(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.delay = time.Second // the store takes it
		l := o.lease(t)
		require.Equal(t, `{"n":1}`, string(l.Input))
		require.Equal(t, time.Now().Add(life), l.Expires)
		standing, err := o.say(t,
			said(job.Progress, `{"progress":1,"total":2,"message":"half"}`),
			said(job.Output, `{"chunk":"a line\nand half of"}`),
			said(job.Output, `{"chunk":"w6A=","encoding":"base64"}`),
			said(job.Log, `{"line":"hm"}`),
			said("checkpoint", `[1, 2]`),
			said("page.done", ``),
		)
		require.NoError(t, err)
		require.Equal(t, job.Standing{Expires: time.Now().Add(life)}, standing)
		require.Equal(t, []string{`{"progress":1,"total":2,"message":"half"}`}, o.data(job.Progress))
		require.Equal(t, "a line\nand half ofà", string(o.output(t)))
		require.Equal(t, []logLine{{"log", "hm"}}, o.logs(t))
		require.Equal(t, []string{`[1,2]`}, o.data("checkpoint"))
		require.Equal(t, []string{`{}`}, o.data("page.done"))

		_, err = o.say(t, said(job.Succeeded, `{"output":true,"type":"text/plain"}`))
		require.NoError(t, err)
		require.NoError(t, o.err)
		require.True(t, o.out.Record.Private.Result.Output)
		_, err = o.say(t, said(job.Succeeded, `{"output":true}`))
		require.NoError(t, err, "its answer may have been lost")
		_, err = o.say(t, said(job.Log, `{"line":"late"}`))
		require.ErrorIs(t, err, job.ErrLeaseLost)
		_, err = o.say(t)
		require.ErrorIs(t, err, job.ErrLeaseLost)
	})
}

func TestResultsOfAPullWorker(t *testing.T) {
	for _, c := range []struct{ said, result, typ, value string }{
		{`{"result":{"a": 1}}`, `{"a":1}`, "application/json", `{"a":1}`},
		{`{"result":"text","type":"text/plain"}`, "text", "text/plain", `"text"`},
		{`{"result":{"a":1},"type":"application/geo+json"}`, `{"a":1}`, "application/geo+json", `{"a":1}`},
		{`{"result":"AAE=","encoding":"base64","type":"image/png"}`, "\x00\x01", "image/png", ``},
	} {
		desk(t, func(t *testing.T, o *office) {
			o.lease(t)
			_, err := o.say(t, said(job.Succeeded, c.said))
			require.NoError(t, err, c.said)
			require.NoError(t, o.err)
			require.Equal(t, c.result, string(o.out.Piece))
			require.Equal(t, c.typ, o.out.Record.Private.Result.Type)
			require.Contains(t, string(o.out.Record.Data), c.value)
		})
	}
}

func TestFailuresOfAPullWorker(t *testing.T) {
	for _, c := range []struct {
		said, name string
		retryable  bool
	}{
		{`{"error":{"detail":"no luck"}}`, "attempt-failed", true},
		{`{"error":{"detail":"no luck","retryable":false}}`, "attempt-failed", false},
		{`{"error":{"detail":"no luck","type":"/problems/exit-status"}}`, "exit-status", true},
	} {
		desk(t, func(t *testing.T, o *office) {
			o.lease(t)
			_, err := o.say(t, said(job.Failed, c.said))
			require.NoError(t, err)
			require.Equal(t, "no luck", requireProblem(t, o.err, c.name, c.retryable).Detail)
		})
	}
}

// Of a report with one bad event nothing is said, and the worker is told which one.
func TestBadReports(t *testing.T) {
	for _, c := range []struct {
		bad     job.Said
		pointer string
	}{
		{said("job.output", `{"chunk":1}`), "/1/data/chunk"},
		{said("job.output", `{}`), "/1/data/chunk"},
		{said("job.output", `[]`), "/1/data"},
		{said("job.output", `{"chunk":"?","encoding":"base64"}`), "/1/data/chunk"},
		{said("job.output", `{"chunk":"x","encoding":"gzip"}`), "/1/data/encoding"},
		{said("job.output", `{"chunk":"x","offset":7}`), "/1/data/offset"},
		{said("job.output", `{"chunk":"x","offset":0.5}`), "/1/data/offset"},
		{said("job.output", `{"chunk":"x","offset":-1}`), "/1/data/offset"},
		{said("job.output", `{"chunk":"x","more":1}`), "/1/data/more"},
		{said("job.output", `{"CHUNK":"x"}`), "/1/data/CHUNK"},
		{said("job.progress", `{}`), "/1/data/progress"},
		{said("job.progress", `{"progress":"1"}`), "/1/data/progress"},
		{said("job.progress", `{"progress":null}`), "/1/data/progress"},
		{said("job.log", `{"stream":"x"}`), "/1/data/line"},
		{said("job.running", `{}`), "/1/type"},
		{said("stream.end", `{}`), "/1/type"},
		{said("error", `{}`), "/1/type"},
		{said("sp ace", `{}`), "/1/type"},
		{said("own", `"`+strings.Repeat("x", worker.DefaultLimits.Event)+`"`), "/1/data"},
		{said("checkpoint", `"`+strings.Repeat("x", job.MaxCheckpoint)+`"`), "/1/data"},
		{said("job.succeeded", `{}`), "/1/data"},
		{said("job.succeeded", `{"result":1,"output":true}`), "/1/data"},
		{said("job.succeeded", `{"result":1,"type":"text/plain"}`), "/1/data/result"},
		{said("job.succeeded", `{"result":1,"type":"no type"}`), "/1/data/type"},
		{said("job.failed", ``), "/1/data/error"},
		{said("job.failed", `{"error":"no"}`), "/1/data/error"},
		{said("job.failed", `{"error":{"type":"/problems/draining"}}`), "/1/data/error/type"},
		{said("job.failed", `{"error":{"retryable":1}}`), "/1/data/error/retryable"},
		{said("job.failed", `{"error":{"status":500}}`), "/1/data/error/status"},
		{said("job.queued", `{"run_at":"now"}`), "/1/data/run_at"},
	} {
		desk(t, func(t *testing.T, o *office) {
			o.lease(t)
			_, err := o.say(t, said(job.Log, `{"line":"before"}`), c.bad)
			p := requireProblem(t, err, "invalid-input", false)
			require.Equal(t, c.pointer, p.Errors[0].Pointer, "%s", c.bad.Data)
			_, err = o.say(t, said(job.Failed, `{"error":{}}`), said(job.Log, `{"line":"behind"}`))
			require.Equal(t, "/1", requireProblem(t, err, "invalid-input", false).Errors[0].Pointer)
			require.Empty(t, o.stored())
			require.Less(t, len(p.Detail), 1<<10)
		})
	}
}

func TestLeaseLivesAsLongAsItsWorkerSaysSomething(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		for range 5 {
			time.Sleep(life - time.Second)
			_, err := o.say(t)
			require.NoError(t, err)
		}
		begin := time.Now()
		<-o.ended
		require.Equal(t, life, time.Since(begin))
		require.ErrorIs(t, o.err, job.ErrLeaseLost)
		_, err := o.say(t, said(job.Log, `{"line":"late"}`))
		require.ErrorIs(t, err, job.ErrLeaseLost)
		require.Empty(t, o.stored())
	})
}

// A worker whose words the store takes long to take is alive all the time.
func TestSlowStoreCostsNoLease(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		o.delay = 2 * life
		_, err := o.say(t, said(job.Log, `{"line":"x"}`))
		require.NoError(t, err)
		require.Len(t, o.stored(), 1)
	})
}

func TestPullWorkerLearnsOfACancel(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		o.cancel(job.ErrCanceled)
		standing, err := o.say(t, said(job.Log, `{"line":"cleaning up"}`))
		require.NoError(t, err)
		require.True(t, standing.Cancel)
		require.Len(t, o.stored(), 1)
		_, err = o.say(t, said(job.Failed, `{"error":{"detail":"stopped"}}`))
		require.NoError(t, err)
		require.ErrorIs(t, o.err, job.ErrCanceled)
	})
}

func TestPullWorkerThatDoesNotCareAboutACancel(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		o.cancel(job.ErrCanceled)
		begin := time.Now()
		<-o.ended
		require.Equal(t, 15*time.Second, time.Since(begin))
		require.ErrorIs(t, o.err, job.ErrCanceled)
	})
}

// When the process ends so does the wait, at once; the worker is to come back, and is
// not told that it has lost anything.
func TestDrainLeavesAPullWorker(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		o.cancel(job.ErrDraining)
		<-o.ended
		require.ErrorIs(t, o.err, job.ErrDraining)
		o.job.Lease = lease // the broker leaves it
		_, err := o.say(t, said(job.Log, `{"line":"x"}`))
		requireProblem(t, err, "storage-unavailable", false)
	})
}

func TestPullWorkerHandsBack(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.lease(t)
		_, err := o.say(t, said(job.Queued, ``))
		require.NoError(t, err)
		require.ErrorIs(t, o.err, job.ErrDraining)
	})
}

// Whoever asked has gone before it was told: the job goes back at once.
func TestLeaseOfSomebodyWhoHasGone(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		asker, leave := context.WithCancel(t.Context())
		leave()
		leases, err := o.Lease(asker, time.Second, "w", 1, "test")
		require.Error(t, err)
		require.Len(t, leases, 1)
		<-o.ended
		require.ErrorIs(t, o.err, job.ErrDraining)
	})
}

// A worker that has said all it may is held up, for no longer than a request lives.
func TestPullWorkerIsPaced(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.before = used{events: 20_000}
		o.lease(t)
		begin := time.Now()
		for range 20 {
			_, err := o.say(t, said(job.Log, `{"line":"x"}`))
			require.NoError(t, err)
		}
		took := time.Since(begin)
		require.Greater(t, took, 30*time.Second)
		require.LessOrEqual(t, took, 20*5*time.Second+time.Second)
		require.Len(t, o.logs(t), 20)
	})
}

func TestOutputOfAPullWorkerIsCut(t *testing.T) {
	desk(t, func(t *testing.T, o *office) {
		o.before = used{bytes: worker.DefaultLimits.Bytes - 5}
		o.lease(t)
		_, err := o.say(t, said(job.Output, `{"chunk":"hello world","offset":0}`))
		require.NoError(t, err)
		_, err = o.say(t, said(job.Output, `{"chunk":"!","offset":11}`), said(job.Succeeded, `{"output":true}`))
		require.NoError(t, err)
		require.Equal(t, "hello", string(o.output(t)))
		require.True(t, o.out.Record.Private.Result.Truncated)
	})
}

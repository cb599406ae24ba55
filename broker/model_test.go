package broker

import (
	"context"
	"errors"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// TestModel lets several actors do anything to jobs, in any order: workers, pull workers
// with leases, callers, a clock, an archiver, processes that die, and processes that were
// thought dead and were only stopped. What each is told must be what the model says, and what is stored
// a way through the table of states: one end, nothing behind it, attempts that only grow.
func TestModel(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("300")) // with a hundred a fence that is missing is not always found
	}
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		defer m.close()
		t.Repeat(map[string]func(*rapid.T){
			"":            m.check,
			"submit":      m.submit,
			"submit late": m.submitLate,
			"batch":       m.submitBatch,
			"batch dies":  m.batchDies,
			"repeat":      m.repeat,
			"misuse":      m.misuse,
			"claim":       m.claim,
			"lease":       m.takeLease,
			"lapse":       m.lapse,
			"say":         m.say,
			"succeed":     m.succeed,
			"fail":        m.fail,
			"hand back":   m.handBack,
			"cancel":      m.cancel,
			"expire":      m.expire,
			"archive":     m.archive,
			"move":        m.move,
			"die":         m.die,
			"stop":        m.stop,
		})
		m.finish(t)
	})
}

// model is what should be: of each job who holds it, and what must not be undone.
type model struct {
	memory  *memory
	on      store     // what the next process stands on; nil: all that the last one left
	now     *Broker   // the process that lives
	hands   *hands    // its pull workers
	old     []*Broker // stopped ones, which come back to write
	jobs    []*modelJob
	batches []*modelBatch
	tasks   []*modelTask // all that were ever claimed
}

type modelJob struct {
	id      job.ID
	pulled  bool
	holder  *modelTask // nil: nobody
	late    bool       // its deadline was over when it came
	asked   bool       // to stop, in this attempt or before
	attempt int        // the highest that was seen
	types   []job.Type // what was seen
}

type modelTask struct {
	*Task
	job *modelJob
	m   *message.Message // of a pull worker's; nil: there is none, or it is settled
}

func newModel(t *rapid.T) *model {
	m := &model{memory: newMemory()}
	m.open(t)
	return m
}

// open starts the process that lives from now on.
func (m *model) open(t *rapid.T) {
	k := job.Kind{Name: testKind, Concurrency: 1000, MaxAttempts: 4, Backoff: job.Backoff{First: 1, Max: 1}}
	pulled := k
	pulled.Name, pulled.Lease = pulledKind, time.Hour
	q := queue.New(k, pulled)
	var s store = shared{m.memory}
	if m.on != nil {
		s = m.on
	}
	b, err := open(context.Background(), s, Options{Kinds: []job.Kind{k, pulled}, Queue: q, Folds: []func(*job.Commit){q.Fold}, Log: zap.NewNop()})
	require.NoError(t, err)
	m.now, m.hands = b, newHands(t, b)
}

func (m *model) close() {
	for _, b := range append(m.old, m.now) {
		_ = b.Close()
	}
	m.memory.close()
}

// any returns one of the jobs, and skips the step if there are none.
func (m *model) any(t *rapid.T) *modelJob {
	if len(m.jobs) == 0 {
		t.Skip("no jobs")
	}
	return rapid.SampledFrom(m.jobs).Draw(t, "job")
}

// held returns one of all tasks that there ever were.
func (m *model) held(t *rapid.T) *modelTask {
	if len(m.tasks) == 0 {
		t.Skip("no tasks")
	}
	return rapid.SampledFrom(m.tasks).Draw(t, "task")
}

func (m *model) submit(t *rapid.T)     { m.add(t, time.Time{}) }
func (m *model) submitLate(t *rapid.T) { m.add(t, time.Now().Add(-time.Second)) }

func (m *model) add(t *rapid.T, deadline time.Time) {
	if len(m.jobs) >= 2 {
		t.Skip("enough for things to happen to each")
	}
	id, kind := job.NewID(), rapid.SampledFrom([]string{testKind, pulledKind}).Draw(t, "kind")
	_, _, err := m.now.enter(context.Background(), id, &job.Request{Kind: kind, Input: []byte("in"), Deadline: deadline}) // it was admitted in time
	require.NoError(t, err)
	m.jobs = append(m.jobs, &modelJob{id: id, pulled: kind == pulledKind, late: !deadline.IsZero()})
}

func (m *model) claim(t *rapid.T) {
	j := m.any(t)
	if j.pulled {
		t.Skip("its worker asks for it")
	}
	waits := m.waits(t, j)
	task, err := m.now.claim(context.Background(), j.id, "")
	require.Equal(t, waits, err == nil, "%v", err)
	if err != nil {
		return
	}
	m.hold(j, &modelTask{Task: task, job: j})
}

// hold says that an attempt has the job now.
func (m *model) hold(j *modelJob, task *modelTask) {
	j.holder = task
	m.tasks = append(m.tasks, task)
}

// waits reports whether somebody may have the job.
func (m *model) waits(t *rapid.T, j *modelJob) bool {
	return m.status(t, j) == job.StatusQueued && !j.late
}

func (m *model) status(t *rapid.T, j *modelJob) job.Status {
	got, err := m.now.Job(context.Background(), j.id)
	require.NoError(t, err)
	return got.Status
}

// says has a task do something that only the job's holder may, and reports whether it
// could.
func (m *model) says(t *rapid.T, do func(*modelTask) error) (*modelTask, bool) {
	task := m.held(t)
	holds := task.job.holder == task
	if h := task.job.holder; h != nil && !holds && h.lease == task.lease {
		t.Skip("the lease went on to the next process: two at a time have no store")
	}
	err := do(task)
	switch {
	case holds:
		require.NoError(t, err)
	case task.b != m.now && errors.Is(err, errSilent): // what it would have to read on from was moved and purged
	default:
		require.ErrorIs(t, err, job.ErrLeaseLost)
	}
	return task, holds
}

func (m *model) say(t *rapid.T) {
	m.says(t, func(task *modelTask) error { return task.Append(context.Background(), progress()) })
}

func (m *model) succeed(t *rapid.T) {
	m.ends(m.says(t, (*modelTask).done))
}

// done ends the attempt well.
func (task *modelTask) done() error {
	return task.settle((*message.Message).Ack, task.Task.succeed)
}

func (m *model) fail(t *rapid.T) {
	p := job.Problemf("attempt-failed", "no")
	p.Retryable = rapid.Bool().Draw(t, "retryable")
	m.ends(m.says(t, func(task *modelTask) error {
		return task.settle(nackWith(task, p), func(ctx context.Context) error { return task.Task.fail(ctx, p) })
	}))
}

func (m *model) handBack(t *rapid.T) {
	m.ends(m.says(t, func(task *modelTask) error { return task.settle(nackWith(task, job.ErrDraining), task.back) }))
}

func (m *model) ends(task *modelTask, held bool) {
	if held {
		task.job.holder = nil
	}
}

func (m *model) cancel(t *rapid.T) {
	j := m.any(t)
	before := m.status(t, j)
	_, err := m.now.Cancel(context.Background(), j.id, "", "")
	require.NoError(t, err)
	switch before {
	case job.StatusQueued:
		require.Equal(t, job.StatusCanceled, m.status(t, j))
	case job.StatusRunning:
		j.asked = true
		require.Equal(t, job.StatusRunning, m.status(t, j))
		require.ErrorIs(t, context.Cause(j.holder.ctx), job.ErrCanceled, "its worker is told")
	}
}

func (m *model) expire(t *rapid.T) {
	j := m.any(t)
	waits := m.status(t, j) == job.StatusQueued
	require.NoError(t, m.now.Expire(context.Background(), j.id))
	if waits && j.late {
		require.Equal(t, job.StatusFailed, m.status(t, j))
	}
}

func (m *model) archive(*rapid.T) {
	m.now.archiveOver()
	m.now.purgeBelow(m.now.mark())
}

// die ends the process, as a kill does, and starts the next one.
func (m *model) die(t *rapid.T) {
	halt(m.now)
	m.tasks = slices.DeleteFunc(m.tasks, func(task *modelTask) bool { return task.b == m.now })
	m.next(t)
}

// stop starts the next process beside one that was stopped, and comes back.
func (m *model) stop(t *rapid.T) {
	if len(m.old) > 2 {
		t.Skip("enough")
	}
	m.old = append(m.old, m.now)
	m.next(t)
}

func (m *model) next(t *rapid.T) {
	ran := map[*modelJob]*modelTask{}
	for _, j := range m.jobs {
		if j.holder != nil {
			ran[j] = j.holder
		}
		j.holder = nil
	}
	m.open(t)
	for j := range ran {
		if !j.pulled { // taken back, or ended if it was to stop, or was the last attempt
			require.NotEqual(t, job.StatusRunning, m.status(t, j))
			delete(ran, j)
		}
	}
	m.goOn(t, ran)
}

// check looks at all that is stored.
func (m *model) check(t *rapid.T) {
	requireFloors(t, m.now)
	require.Empty(t, m.strangers(), "nobody has submitted them")
	for _, j := range m.jobs {
		got, err := m.now.Job(context.Background(), j.id)
		require.NoError(t, err)
		types := m.types(t, j)
		require.True(t, len(types) >= len(j.types) && slices.Equal(j.types, types[:len(j.types)]), "what was seen stays: %v, %v", j.types, types)
		require.Equal(t, got.Status, statusBehind(t, types))
		require.GreaterOrEqual(t, got.Attempt, j.attempt)
		require.LessOrEqual(t, got.Attempt, 4)
		if j.asked {
			require.Contains(t, []job.Status{job.StatusRunning, job.StatusCanceled, job.StatusSucceeded}, got.Status, "nobody has it again")
		}
		require.Equal(t, j.holder != nil, got.Status == job.StatusRunning)
		j.types, j.attempt = types, got.Attempt
	}
}

// statusBehind goes the way of a job by what the documentation says of its states, and
// not by the table that the log goes by.
func statusBehind(t *rapid.T, types []job.Type) (now job.Status) {
	ways := map[job.Status]map[job.Type]job.Status{
		"":       {job.Queued: "queued"},
		"queued": {job.Running: "running", job.Canceled: "canceled", job.Failed: "failed"},
		"running": {
			job.Progress: "running", job.CancelRequested: "running", job.AttemptFailed: "running",
			job.Queued: "queued", job.Succeeded: "succeeded", job.Failed: "failed", job.Canceled: "canceled",
		},
	}
	for _, typ := range types {
		to, legal := ways[now][typ]
		require.True(t, legal, "%s while it is %q: %v", typ, now, types)
		now = to
	}
	return now
}

// types returns the types of a job's events, whose seq are dense and whose attempts grow.
func (m *model) types(t *rapid.T, j *modelJob) (types []job.Type) {
	attempt := 0
	for after := (job.Cursor{}); ; {
		events, err := m.now.History(context.Background(), j.id, after, 128<<10)
		require.NoError(t, err)
		if len(events) == 0 {
			return types
		}
		for _, e := range events {
			require.EqualValues(t, len(types)+1, e.Seq, "a hole")
			require.GreaterOrEqual(t, e.Attempt, attempt)
			types, attempt = append(types, e.Type), e.Attempt
		}
		after = events[len(events)-1].Cursor()
	}
}

// finish brings every job to its end.
func (m *model) finish(t *rapid.T) {
	m.repeatAll(t)
	for _, j := range m.jobs {
		if j.holder != nil {
			require.NoError(t, j.holder.done())
		}
		j.holder = nil
		require.NoError(t, m.now.Expire(context.Background(), j.id))
		if task, err := m.now.claim(context.Background(), j.id, ""); err == nil {
			require.NoError(t, task.succeed(context.Background()))
		}
		require.True(t, m.status(t, j).Over())
	}
	m.archive(t)
	m.repeatAll(t)
	m.check(t)
}

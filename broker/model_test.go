package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// TestModel lets several actors do anything to jobs, in any order: workers, callers, a
// clock, an archiver, processes that die, and processes that were thought dead and
// were only stopped. What each is told must be what the model says, and what is stored
// a way through the table of states: one end, nothing behind it, attempts that only grow.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		defer m.close()
		t.Repeat(map[string]func(*rapid.T){
			"":            m.check,
			"submit":      m.submit,
			"submit late": m.submitLate,
			"claim":       m.claim,
			"say":         m.say,
			"succeed":     m.succeed,
			"fail":        m.fail,
			"hand back":   m.handBack,
			"cancel":      m.cancel,
			"expire":      m.expire,
			"archive":     m.archive,
			"die":         m.die,
			"stop":        m.stop,
		})
		m.finish(t)
	})
}

// model is what should be: of each job who holds it, and what must not be undone.
type model struct {
	memory *memory
	now    *Broker   // the process that lives
	old    []*Broker // stopped ones, which come back to write
	jobs   []*modelJob
	tasks  []*modelTask // all that were ever claimed
}

type modelJob struct {
	id      job.ID
	holder  *modelTask // nil: nobody
	late    bool       // its deadline was over when it came
	asked   bool       // to stop, in this attempt or before
	attempt int        // the highest that was seen
	types   []job.Type // what was seen
}

type modelTask struct {
	*Task
	job *modelJob
}

func newModel(t *rapid.T) *model {
	m := &model{memory: newMemory()}
	m.now = m.open(t)
	return m
}

func (m *model) open(t *rapid.T) *Broker {
	k := job.Kind{Name: testKind, Concurrency: 1000, MaxAttempts: 4, Backoff: job.Backoff{First: 1, Max: 1}}
	q := queue.New(k)
	b, err := open(context.Background(), shared{m.memory}, Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold}, Log: zap.NewNop()})
	require.NoError(t, err)
	return b
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
	if len(m.jobs) == 3 {
		t.Skip("enough for things to happen to each")
	}
	id := job.NewID()
	_, _, err := m.now.enter(context.Background(), id, &job.Request{Kind: testKind, Input: []byte("in"), Deadline: deadline}) // it was admitted in time
	require.NoError(t, err)
	m.jobs = append(m.jobs, &modelJob{id: id, late: !deadline.IsZero()})
}

func (m *model) claim(t *rapid.T) {
	j := m.any(t)
	waits := m.status(t, j) == job.StatusQueued && !j.late
	task, err := m.now.claim(context.Background(), j.id, "")
	require.Equal(t, waits, err == nil, "%v", err)
	if err != nil {
		return
	}
	j.holder = &modelTask{task, j}
	m.tasks = append(m.tasks, j.holder)
}

func (m *model) status(t *rapid.T, j *modelJob) job.Status {
	got, err := m.now.Job(context.Background(), j.id)
	require.NoError(t, err)
	return got.Status
}

// says has a task do something that only the job's holder may, and reports whether it
// could.
func (m *model) says(t *rapid.T, do func(*Task) error) (*modelTask, bool) {
	task := m.held(t)
	holds := task.job.holder == task
	err := do(task.Task)
	if holds {
		require.NoError(t, err)
	} else {
		require.ErrorIs(t, err, job.ErrLeaseLost)
	}
	return task, holds
}

func (m *model) say(t *rapid.T) {
	m.says(t, func(task *Task) error { return task.Append(context.Background(), progress()) })
}

func (m *model) succeed(t *rapid.T) {
	m.ends(m.says(t, func(task *Task) error { return task.succeed(context.Background()) }))
}

func (m *model) fail(t *rapid.T) {
	p := job.Problemf("attempt-failed", "no")
	p.Retryable = rapid.Bool().Draw(t, "retryable")
	m.ends(m.says(t, func(task *Task) error { return task.fail(context.Background(), p) }))
}

func (m *model) handBack(t *rapid.T) {
	m.ends(m.says(t, func(task *Task) error { return task.back(context.Background()) }))
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
	running := map[*modelJob]bool{}
	for _, j := range m.jobs {
		running[j] = j.holder != nil
		j.holder = nil
	}
	m.now = m.open(t)
	for j, ran := range running {
		if ran { // taken back, or ended if it was to stop, or was the last attempt
			require.NotEqual(t, job.StatusRunning, m.status(t, j))
		}
	}
}

// check looks at all that is stored.
func (m *model) check(t *rapid.T) {
	requireFloors(t, m.now)
	for _, j := range m.jobs {
		got, err := m.now.Job(context.Background(), j.id)
		require.NoError(t, err)
		types := m.types(t, j)
		require.True(t, len(types) >= len(j.types) && slices.Equal(j.types, types[:len(j.types)]), "what was seen stays: %v, %v", j.types, types)
		over := len(j.types) > 0 && j.types[len(j.types)-1].Terminal()
		require.False(t, over && len(types) > len(j.types), "nothing comes behind the end: %v", types)
		for i, typ := range types {
			require.Equal(t, typ.Terminal(), i == len(types)-1 && got.Status.Over(), "%v", types)
		}
		require.GreaterOrEqual(t, got.Attempt, j.attempt)
		require.LessOrEqual(t, got.Attempt, 4)
		if j.asked && got.Status.Over() {
			require.Contains(t, []job.Status{job.StatusCanceled, job.StatusSucceeded, job.StatusFailed}, got.Status)
		}
		require.Equal(t, j.holder != nil, got.Status == job.StatusRunning)
		j.types, j.attempt = types, got.Attempt
	}
}

func (m *model) types(t *rapid.T, j *modelJob) (types []job.Type) {
	for after := (job.Cursor{}); ; {
		events, err := m.now.History(context.Background(), j.id, after, 128<<10)
		require.NoError(t, err)
		if len(events) == 0 {
			return types
		}
		for _, e := range events {
			require.EqualValues(t, len(types)+1, e.Seq, "a hole")
			types = append(types, e.Type)
		}
		after = events[len(events)-1].Cursor()
	}
}

// finish brings every job to its end.
func (m *model) finish(t *rapid.T) {
	for _, j := range m.jobs {
		if j.holder != nil {
			require.NoError(t, j.holder.succeed(context.Background()))
		}
		j.holder = nil
		require.NoError(t, m.now.Expire(context.Background(), j.id))
		if task, err := m.now.claim(context.Background(), j.id, ""); err == nil {
			require.NoError(t, task.succeed(context.Background()))
		}
		require.True(t, m.status(t, j).Over())
	}
	m.check(t)
}

// Whoever is faster, the caller who cancels or the worker who is done: there is one end.
func TestCancelRaces(t *testing.T) {
	b := node(t, newShared(t))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 100)
	ends := map[job.Status]int{}
	var mu sync.Mutex
	for n := range 10_000 {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			status := cancelRace(t, b, n)
			mu.Lock()
			defer mu.Unlock()
			ends[status]++
		})
	}
	wg.Wait()
	t.Log(ends)
	require.Len(t, ends, 3, "each came first now and then")
}

// cancelRace lets a cancel and the end of a job's work race and returns how it ended.
func cancelRace(t *testing.T, b *Broker, n int) job.Status {
	id := submitTo(t, b)
	task, err := b.claim(t.Context(), id, "")
	require.NoError(t, err)
	defer task.end()
	cancel := func() {
		_, err := b.Cancel(t.Context(), id, "", "")
		require.NoError(t, err)
	}
	end := func() {
		finish := task.succeed
		if n%2 == 0 {
			finish = func(ctx context.Context) error { return task.fail(ctx, job.Problemf("attempt-failed", "no")) }
		}
		err := finish(t.Context())
		require.True(t, err == nil || errors.Is(err, job.ErrLeaseLost), "%v", err)
	}
	racers := []func(){cancel, end}
	if n%4 < 2 {
		slices.Reverse(racers)
	}
	var race sync.WaitGroup
	for _, racer := range racers {
		race.Go(racer)
	}
	race.Wait()
	types := typesOf(t, b, id)
	for i, typ := range types {
		require.Equal(t, i == len(types)-1, typ.Terminal(), "%v", types)
	}
	j, err := b.Job(t.Context(), id)
	require.NoError(t, err)
	return j.Status
}

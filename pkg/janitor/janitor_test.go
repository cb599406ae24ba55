package janitor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// ends notes when which job was ended.
type ends struct {
	j     *Janitor
	start time.Time
	takes time.Duration // for one job

	mu    sync.Mutex // protects the fields below
	at    map[job.ID]time.Duration
	sick  int // so many calls fail
	calls int
}

func (e *ends) Expire(_ context.Context, id job.ID) error {
	time.Sleep(e.takes)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls++
	if e.sick > 0 {
		e.sick--
		return errors.New("the store is away")
	}
	e.at[id] = time.Since(e.start)
	e.j.Fold(&job.Commit{Job: &job.Job{ID: id, Status: job.StatusFailed}})
	return nil
}

// run lets a Janitor work in a bubble of time.
func run(t *testing.T, test func(t *testing.T, j *Janitor, e *ends)) {
	synctest.Test(t, func(t *testing.T) {
		e := &ends{start: time.Now(), at: map[job.ID]time.Duration{}}
		e.j = New(e, zap.NewNop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); e.j.Run(ctx) }()
		test(t, e.j, e)
		cancel()
		<-done
	})
}

func waits(id job.ID, deadline time.Time, start time.Duration) *job.Commit {
	return &job.Commit{Job: &job.Job{
		ID: id, Status: job.StatusQueued, CreatedAt: time.Now(), Request: &job.Request{Deadline: deadline, StartTimeout: start},
	}}
}

func TestEachInItsTime(t *testing.T) {
	run(t, func(t *testing.T, j *Janitor, e *ends) {
		for _, c := range []*job.Commit{ // each comes before those that it knows, and has to wake it
			waits("none", time.Time{}, 0),
			waits("late", time.Now().Add(20*time.Second), 0),
			waits("both", time.Now().Add(time.Hour), 10*time.Second),
			waits("soon", time.Time{}, 5*time.Second),
			waits("past", time.Now().Add(-time.Second), 0),
		} {
			j.Fold(c)
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, map[job.ID]time.Duration{"past": 0, "soon": 5 * time.Second, "both": 10 * time.Second, "late": 20 * time.Second}, e.at)
		require.Empty(t, j.due)
	})
}

// One that runs is nobody's here; one that comes back is, for its deadline.
func TestRunningIsNotDue(t *testing.T) {
	run(t, func(t *testing.T, j *Janitor, e *ends) {
		c := waits("a", time.Now().Add(30*time.Second), 5*time.Second)
		j.Fold(c)
		time.Sleep(time.Second)
		c.Job.Status, c.Job.StartedAt = job.StatusRunning, time.Now()
		j.Fold(c)
		time.Sleep(20 * time.Second)
		require.Empty(t, e.at)
		c.Job.Status = job.StatusQueued
		j.Fold(c)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, map[job.ID]time.Duration{"a": 30 * time.Second}, e.at)
	})
}

// A store that is away is asked again, at leisure.
func TestSickStore(t *testing.T) {
	run(t, func(t *testing.T, j *Janitor, e *ends) {
		e.sick = 3
		j.Fold(waits("a", time.Now(), 0))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 4, e.calls)
		require.Equal(t, map[job.ID]time.Duration{"a": 3 * again}, e.at)
	})
}

// Jobs that are due together are ended together: a slow end holds nobody else up, and
// each is asked for once.
func TestManyAtOnce(t *testing.T) {
	run(t, func(t *testing.T, j *Janitor, e *ends) {
		e.takes = time.Second
		for n := range 2 * hands {
			j.Fold(waits(job.ID(fmt.Sprint(n)), time.Now().Add(time.Second), 0))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, e.at, 2*hands)
		require.Equal(t, 2*hands, e.calls)
		for id, at := range e.at {
			require.LessOrEqual(t, at, 3*time.Second, id)
		}
		require.Empty(t, j.due)
	})
}

// A job that is due at another time by the time its end is refused is not forgotten.
func TestDueAtAnotherTime(t *testing.T) {
	run(t, func(t *testing.T, j *Janitor, e *ends) {
		e.sick, e.takes = 1, time.Second
		c := waits("a", time.Now().Add(10*time.Second), 0)
		j.Fold(c)
		time.Sleep(10*time.Second + time.Millisecond) // it is being ended
		c.Job.Request.Deadline = time.Now()
		j.Fold(c)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Contains(t, e.at, job.ID("a"))
	})
}

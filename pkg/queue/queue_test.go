package queue

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log tells a queue what a log would: it holds jobs and folds changes of them.
type log struct {
	q    *Queue
	jobs map[job.ID]*job.Job
}

func newLog(kinds ...job.Kind) *log { return &log{New(kinds...), map[job.ID]*job.Job{}} }

// put says that the job is in this state now.
func (l *log) put(id string, s job.Status, change ...func(*job.Job)) {
	j := l.jobs[job.ID(id)]
	if j == nil {
		j = &job.Job{ID: job.ID(id), Kind: "k"}
		l.jobs[j.ID] = j
	}
	was := j.Status
	j.Status, j.RunAt = s, time.Time{}
	for _, f := range change {
		f(j)
	}
	l.q.Fold(&job.Commit{Was: was, Job: j, Events: make([]job.Event, 1)})
}

func priority(p job.Priority) func(*job.Job) { return func(j *job.Job) { j.Priority = p } }
func runAt(at time.Time) func(*job.Job)      { return func(j *job.Job) { j.RunAt = at } }

// take takes a job that may run at once, "" if there is none.
func (l *log) take() string {
	id, _ := l.q.TryTake("k")
	return string(id)
}

func TestOrder(t *testing.T) {
	l := newLog(job.Kind{Name: "k", Concurrency: 100})
	l.put("low1", job.StatusQueued, priority(job.Low))
	l.put("normal1", job.StatusQueued)
	l.put("high1", job.StatusQueued, priority(job.High))
	l.put("normal2", job.StatusQueued)
	l.put("high2", job.StatusQueued, priority(job.High))
	for ahead, id := range []string{"high1", "high2", "normal1", "normal2", "low1"} {
		got, ok := l.q.Position(job.ID(id))
		require.True(t, ok)
		require.Equal(t, ahead, got, id)
	}
	for _, want := range []string{"high1", "high2", "normal1", "normal2", "low1", ""} {
		require.Equal(t, want, l.take())
	}
}

// A full queue says when a tenth of it will be free, at the pace of the last minute.
func TestRetryAfterOfAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "k", QueueLimit: 100, Concurrency: 1})
		after := func() time.Duration {
			var p *job.Problem
			require.ErrorAs(t, l.q.Admit("k"), &p)
			return p.RetryAfter
		}
		n := 0
		fill := func(change ...func(*job.Job)) {
			for queued, _ := l.q.Depth("k"); queued < 100; queued++ {
				n++
				l.put(fmt.Sprint(n), job.StatusQueued, change...)
			}
		}
		fill()
		require.Equal(t, retryUnknown, after(), "nothing has moved yet")
		pace := func(every time.Duration, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(every) {
				id := l.take()
				l.put(id, job.StatusRunning)
				l.put(id, job.StatusSucceeded)
				fill()
			}
		}
		pace(time.Second/2, 10*time.Second)
		require.InDelta(t, 5, after().Seconds(), 1, "two a second, ten places")
		pace(10*time.Second, 10*time.Minute)
		was := after()
		require.InDelta(t, 90, was.Seconds(), 20, "the pace is what it is now")
		time.Sleep(9 * time.Second)
		require.InDelta(t, was.Seconds()-9, after().Seconds(), 0.1, "they come nearer")
		pace(time.Millisecond, 2*time.Minute)
		require.Equal(t, minRetry, after())
		time.Sleep(24 * time.Hour)
		require.Equal(t, maxRetry, after(), "it stands still")
	})
}

// A queue in which all wait for their time says when the first of them is due.
func TestRetryAfterOfScheduledJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "k", QueueLimit: 2, Concurrency: 1})
		l.put("a", job.StatusQueued, runAt(time.Now().Add(time.Hour)))
		l.put("b", job.StatusQueued, runAt(time.Now().Add(2*time.Minute)))
		var p *job.Problem
		require.ErrorAs(t, l.q.Admit("k"), &p)
		require.Equal(t, 2*time.Minute, p.RetryAfter)
	})
}

// What turns out to be damaged is out of the queue, in whatever state it was.
func TestDamaged(t *testing.T) {
	l := newLog(job.Kind{Name: "k", Concurrency: 1})
	l.put("a", job.StatusQueued)
	l.put("b", job.StatusQueued)
	require.Equal(t, "a", l.take())
	l.q.Fold(&job.Commit{Job: &job.Job{ID: "a", Kind: "k"}})
	require.Equal(t, "b", l.take(), "its place is free")
	l.q.Fold(&job.Commit{Job: &job.Job{ID: "b", Kind: "k"}})
	l.q.Return("b", 0)
	require.Empty(t, l.take())
	queued, running := l.q.Depth("k")
	require.Zero(t, queued+running)
}

func TestConcurrency(t *testing.T) {
	l := newLog(job.Kind{Name: "k", Concurrency: 2})
	for _, id := range []string{"a", "b", "c", "d"} {
		l.put(id, job.StatusQueued)
	}
	require.Equal(t, "a", l.take())
	require.Equal(t, "b", l.take())
	require.Empty(t, l.take(), "two are claimed")
	l.put("a", job.StatusRunning)
	require.Empty(t, l.take(), "one runs, one is claimed")
	l.q.Return("b", 0)
	require.Equal(t, "b", l.take(), "its turn again")
	l.put("b", job.StatusCanceled)
	require.Equal(t, "c", l.take(), "a claim that came to nothing holds no slot")
	l.put("c", job.StatusRunning)
	l.put("a", job.StatusSucceeded)
	require.Equal(t, "d", l.take())
	l.q.Return("nobody", 0)
	l.put("d", job.StatusRunning)
	l.put("c", job.StatusQueued) // handed back
	require.Equal(t, "c", l.take())
	queued, running := l.q.Depth("k")
	require.Equal(t, []int{1, 1}, []int{queued, running})
}

func TestRunAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "k", Concurrency: 10})
		start := time.Now()
		l.put("late", job.StatusQueued, runAt(start.Add(time.Hour)))
		l.put("soon", job.StatusQueued, runAt(start.Add(1500*time.Millisecond)))
		l.put("now", job.StatusQueued)
		ahead, _ := l.q.Position("late")
		require.Equal(t, 2, ahead)
		for _, want := range []struct {
			id string
			at time.Duration
		}{{"now", 0}, {"soon", 1500 * time.Millisecond}, {"late", time.Hour}} {
			id, err := l.q.Take(t.Context(), "k")
			require.NoError(t, err)
			require.EqualValues(t, want.id, id)
			require.Equal(t, want.at, time.Since(start), "to the millisecond")
		}
	})
}

func TestTakeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "k", Concurrency: 2})
		got := make(chan job.ID, 10)
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() {
				if id, err := l.q.Take(ctx, "k"); err == nil {
					got <- id
				}
			}()
		}
		synctest.Wait()
		l.put("a", job.StatusQueued)
		l.put("b", job.StatusQueued)
		l.put("c", job.StatusQueued)
		synctest.Wait()
		require.Len(t, got, 2, "the limit")
		l.put("a", job.StatusRunning)
		l.put("a", job.StatusFailed)
		synctest.Wait()
		require.Len(t, got, 3)
		cancel()
	})
}

// Of many takers of many kinds none sleeps while there is something that it could take:
// a wake-up that reached one who took another job is passed on.
func TestTakeOfSeveralKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "a"}, job.Kind{Name: "b"}, job.Kind{Name: "c"})
		got := make(chan job.ID, 10)
		ctx, cancel := context.WithCancel(t.Context())
		for _, kinds := range [][]string{{"a", "b"}, {"b", "c"}, {"c", "a"}, {"a"}, {"b"}, {"c"}} {
			go func() {
				for {
					id, err := l.q.Take(ctx, kinds...)
					if err != nil {
						return
					}
					got <- id
				}
			}()
		}
		synctest.Wait()
		for i, kind := range []string{"a", "b", "c"} {
			l.put(kind+"1", job.StatusQueued, func(j *job.Job) { j.Kind = kind })
			l.put(kind+"2", job.StatusQueued, func(j *job.Job) { j.Kind = kind })
			synctest.Wait()
			require.Len(t, got, 2*(i+1))
		}
		cancel()
	})
}

func TestAdmit(t *testing.T) {
	l := newLog(job.Kind{Name: "k", QueueLimit: 3, Concurrency: 1})
	for range 3 {
		require.NoError(t, l.q.Admit("k"))
	}
	require.ErrorIs(t, l.q.Admit("k"), job.ErrQueueFull)
	l.put("a", job.StatusQueued)
	require.ErrorIs(t, l.q.Admit("k"), job.ErrQueueFull, "in the log instead of on its way")
	l.q.Dismiss("k")
	require.NoError(t, l.q.Admit("k"))
	require.Equal(t, "a", l.take())
	require.ErrorIs(t, l.q.Admit("k"), job.ErrQueueFull)
	l.put("a", job.StatusRunning)
	require.NoError(t, l.q.Admit("k"))
	require.NoError(t, l.q.Admit("other"), "one kind's flood is not another's")
}

// Whatever happens to jobs, in whatever order, the counts are right and every job
// that waits is taken in the end.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 3
		l := newLog(job.Kind{Name: "k", Concurrency: limit})
		ids := []string{"a", "b", "c", "d", "e", "f"}
		claimed := map[string]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"submit": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				if l.jobs[job.ID(id)] == nil {
					l.put(id, job.StatusQueued, priority(job.Priority(rapid.IntRange(-1, 1).Draw(t, "priority"))))
				}
			},
			"take": func(t *rapid.T) {
				if id := l.take(); id != "" {
					require.False(t, claimed[id])
					require.Equal(t, job.StatusQueued, l.jobs[job.ID(id)].Status)
					claimed[id] = true
				}
			},
			"claim ends": func(t *rapid.T) {
				for id := range claimed {
					delete(claimed, id)
					switch j := l.jobs[job.ID(id)]; {
					case j.Status == job.StatusQueued && rapid.Bool().Draw(t, "won"):
						l.put(id, job.StatusRunning)
					default:
						l.q.Return(job.ID(id), 0)
					}
					return
				}
			},
			"end": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				if j := l.jobs[job.ID(id)]; j != nil && !j.Status.Over() {
					l.put(id, rapid.SampledFrom([]job.Status{job.StatusQueued, job.StatusFailed}).Draw(t, "to"))
				}
			},
			"": func(t *rapid.T) {
				queued, running := 0, 0
				for _, j := range l.jobs {
					switch j.Status {
					case job.StatusQueued:
						queued++
					case job.StatusRunning:
						running++
					}
				}
				gotQueued, gotRunning := l.q.Depth("k")
				require.Equal(t, []int{queued, running}, []int{gotQueued, gotRunning})
				line := l.q.line("k")
				require.LessOrEqual(t, line.running+line.claimed, limit)
				requirePositions(t, l.q)
			},
		})
	})
}

// requirePositions compares every position with what counting gives.
func requirePositions(t *rapid.T, q *Queue) {
	for _, it := range q.items {
		if it.state != waiting {
			continue
		}
		want := 0
		for _, other := range q.items {
			if other.state == waiting && byPriority(other, it) {
				want++
			}
		}
		got, ok := q.Position(it.id)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
}

package queue

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// Whatever a job waits for, it has one place of the limit, until it runs.
func TestAdmitAtTheEdge(t *testing.T) {
	const limit = 3
	for name, wait := range map[string]func(l *log, id string){
		"on its way": func(l *log, _ string) { require.NoError(t, l.q.Admit("k")) },
		"ready":      func(l *log, id string) { l.put(id, job.StatusQueued) },
		"delayed":    func(l *log, id string) { l.put(id, job.StatusQueued, runAt(time.Now().Add(time.Hour))) },
		"claimed": func(l *log, id string) {
			l.put(id, job.StatusQueued)
			require.Equal(t, id, l.take())
		},
		"to be tried again": func(l *log, id string) {
			l.put(id, job.StatusRunning)
			l.put(id, job.StatusQueued, runAt(time.Now().Add(time.Hour)))
		},
	} {
		for waiting := range limit + 1 {
			t.Run(fmt.Sprintf("%d %s", waiting, name), func(t *testing.T) {
				l := newLog(job.Kind{Name: "k", QueueLimit: limit, Concurrency: 100})
				for i := range waiting {
					wait(l, fmt.Sprint(i))
				}
				for range limit - waiting {
					require.NoError(t, l.q.Admit("k"))
				}
				require.ErrorIs(t, l.q.Admit("k"), job.ErrQueueFull)
			})
		}
	}
}

// Jobs that come back take no notice of the limit: they were let in already. Nobody
// else is, until they have gone below it again, and none of them is lost.
func TestThoseThatComeBackExceedTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(job.Kind{Name: "k", QueueLimit: 2, Concurrency: 3})
		for _, id := range []string{"retry", "back", "lost"} {
			l.put(id, job.StatusQueued)
			require.Equal(t, id, l.take())
			l.put(id, job.StatusRunning)
		}
		require.NoError(t, l.q.Admit("k"))
		l.put("delayed", job.StatusQueued, runAt(time.Now().Add(time.Minute)))
		require.NoError(t, l.q.Admit("k"))
		l.put("ready", job.StatusQueued)
		l.put("retry", job.StatusQueued, runAt(time.Now().Add(time.Second)))
		l.put("back", job.StatusQueued)
		l.put("lost", job.StatusQueued)
		queued, _ := l.q.Depth("k")
		require.Equal(t, 5, queued)
		for _, want := range []string{"back", "lost", "ready", "retry", "delayed"} {
			full := queued >= 2
			require.Equal(t, full, l.q.Admit("k") != nil, "%d wait", queued)
			if !full {
				l.q.Dismiss("k")
			}
			id, err := l.q.Take(t.Context(), "k")
			require.NoError(t, err)
			require.EqualValues(t, want, id)
			l.put(want, job.StatusRunning)
			l.put(want, job.StatusSucceeded)
			queued, _ = l.q.Depth("k")
		}
		require.Zero(t, queued)
	})
}

// However submits race with each other and with those who take, no more than the limit
// wait, and the limit is reached.
func TestRacingSubmits(t *testing.T) {
	const limit, clients, each = 5, 8, 500
	q := New(job.Kind{Name: "k", QueueLimit: limit, Concurrency: clients * each})
	fold := func(id string, was, now job.Status) {
		q.Fold(&job.Commit{Was: was, Job: &job.Job{ID: job.ID(id), Kind: "k", Status: now}, Events: make([]job.Event, 1)})
	}
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				if q.Admit("k") == nil {
					if rand.IntN(4) == 0 {
						q.Dismiss("k")
					} else {
						fold(fmt.Sprintf("%d-%d", c, i), "", job.StatusQueued)
					}
				}
				if queued, _ := q.Depth("k"); queued > limit {
					t.Errorf("%d jobs wait", queued)
				}
				if id, ok := q.TryTake("k"); ok && rand.IntN(2) == 0 {
					fold(string(id), job.StatusQueued, job.StatusRunning)
				} else if ok {
					q.Return(id, 0)
				}
			}
		})
	}
	wg.Wait()
	for queued, _ := q.Depth("k"); queued < limit; queued++ {
		require.NoError(t, q.Admit("k"), "a place was lost")
	}
	require.ErrorIs(t, q.Admit("k"), job.ErrQueueFull)
}

// A kind whose queue is full and whose workers are all stuck holds up no other, also not
// with those who take of both.
func TestFloodOfAnotherKind(t *testing.T) {
	l := newLog(job.Kind{Name: "k", QueueLimit: 100, Concurrency: 2}, job.Kind{Name: "other", Concurrency: 1})
	for i := range 102 {
		id := fmt.Sprint(i)
		require.NoError(t, l.q.Admit("k"))
		l.put(id, job.StatusQueued)
		if i < 2 {
			require.Equal(t, id, l.take())
			l.put(id, job.StatusRunning)
		}
	}
	require.ErrorIs(t, l.q.Admit("k"), job.ErrQueueFull)
	for i := range 10 {
		id := fmt.Sprintf("other%d", i)
		require.NoError(t, l.q.Admit("other"))
		l.put(id, job.StatusQueued, func(j *job.Job) { j.Kind = "other" })
		ahead, _ := l.q.Position(job.ID(id))
		require.Zero(t, ahead)
		got, ok := l.q.TryTake("k", "other")
		require.True(t, ok)
		require.EqualValues(t, id, got)
		l.put(id, job.StatusRunning)
		l.put(id, job.StatusSucceeded)
	}
	queued, running := l.q.Depth("k")
	require.Equal(t, []int{100, 2}, []int{queued, running})
}

// limited is a queue with a limit, and what ought to be true of it.
type limited struct {
	*log
	limit int
	onWay int // admitted, and not yet in the log
	ids   int
}

// some returns a job in this state, "" if there is none.
func (l *limited) some(t *rapid.T, s job.Status) string {
	var ids []string
	for i := range l.ids {
		if id := fmt.Sprint(i); l.jobs[job.ID(id)].Status == s {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return rapid.SampledFrom(ids).Draw(t, "id")
}

// admit submits, which must succeed exactly if there is a place.
func (l *limited) admit(t *rapid.T) {
	queued, _ := l.q.Depth("k")
	free := queued+l.onWay < l.limit
	require.Equal(t, free, l.q.Admit("k") == nil, "%d wait, %d are on their way", queued, l.onWay)
	if free {
		l.onWay++
	}
}

func (l *limited) arrive(t *rapid.T) {
	switch {
	case l.onWay == 0:
		return
	case rapid.Bool().Draw(t, "lost on its way"):
		l.q.Dismiss("k")
	default:
		l.put(fmt.Sprint(l.ids), job.StatusQueued, runAt(someTime(t)))
		l.ids++
	}
	l.onWay--
}

func someTime(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "later") {
		return time.Now().Add(time.Hour)
	}
	return time.Time{}
}

// Whatever happens to jobs with a place, a submit gets one exactly if one is free.
func TestLimitModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &limited{limit: rapid.IntRange(1, 4).Draw(t, "limit")}
		l.log = newLog(job.Kind{Name: "k", QueueLimit: l.limit, Concurrency: 3})
		t.Repeat(map[string]func(*rapid.T){
			"submit": l.admit,
			"arrive": l.arrive,
			"begin": func(*rapid.T) {
				if id := l.take(); id != "" {
					l.put(id, job.StatusRunning)
				}
			},
			"claim in vain": func(*rapid.T) { l.q.Return(job.ID(l.take()), 0) },
			"come back": func(t *rapid.T) {
				if id := l.some(t, job.StatusRunning); id != "" {
					l.put(id, job.StatusQueued, runAt(someTime(t)))
				}
			},
			"end": func(t *rapid.T) {
				if id := l.some(t, rapid.SampledFrom([]job.Status{job.StatusQueued, job.StatusRunning}).Draw(t, "from")); id != "" {
					l.put(id, job.StatusCanceled)
				}
			},
			"": func(t *rapid.T) {
				want := 0
				for _, j := range l.jobs {
					if j.Status == job.StatusQueued {
						want++
					}
				}
				queued, _ := l.q.Depth("k")
				require.Equal(t, want, queued)
			},
		})
	})
}

package broker

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// lastOf returns the last event of a job.
func lastOf(t *testing.T, b *Broker, id job.ID) job.Event {
	t.Helper()
	events, err := b.History(t.Context(), id, job.Cursor{}, pageSize)
	require.NoError(t, err)
	return events[len(events)-1]
}

// A job that ran ends with the words of whoever canceled it first, however it comes
// to its end, and as one that still waited does.
func TestCanceledTellsWhoAskedAndWhy(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Task){
		"the attempt fails":       func(t *testing.T, task *Task) { require.NoError(t, task.fail(t.Context(), errors.New("stopped"))) },
		"the job is handed back":  func(t *testing.T, task *Task) { require.NoError(t, task.back(t.Context())) },
		"the process was killed":  func(t *testing.T, task *Task) { task.b.void(task.e) },
		"it waited for a process": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := node(t, newShared(t))
			id := submitTo(t, b)
			var task *Task
			if end != nil {
				task = claimFrom(t, b, id)
			}
			_, err := b.Cancel(t.Context(), id, "ann", "not needed")
			require.NoError(t, err)
			_, err = b.Cancel(t.Context(), id, "bob", "me too")
			require.NoError(t, err)
			if end != nil {
				end(t, task)
			}
			last := lastOf(t, b, id)
			require.Equal(t, job.Canceled, last.Type)
			require.Equal(t, `{"by":"ann","reason":"not needed"}`, string(last.Data))
			j, err := b.Job(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, string(last.Data), string(j.Output))
		})
	}
}

// So does one whose process was restarted after it was asked: the log remembers.
func TestCanceledTellsWhyAfterARestart(t *testing.T) {
	s := newShared(t)
	first := node(t, s)
	id := submitTo(t, first)
	claimFrom(t, first, id)
	_, err := first.Cancel(t.Context(), id, "ann", "not needed")
	require.NoError(t, err)

	second := node(t, s) // nobody else has the store now, so the attempt is void
	require.Equal(t, `{"by":"ann","reason":"not needed"}`, string(lastOf(t, second, id).Data))
}

// A request that was out when the server was told to stop is not sent again.
func TestStopDoesNotRepeatWhatMayBeDone(t *testing.T) {
	b := node(t, newShared(t))
	task := claimFrom(t, b, submitTo(t, b))
	task.err = fmt.Errorf("%w: %w", job.Problemf("outcome-unknown", "the request was sent"), job.ErrDraining) // as a worker says it
	require.NoError(t, task.nacked(job.ErrDraining)(t.Context()))
	last := lastOf(t, b, task.Job.ID)
	require.Equal(t, job.Failed, last.Type)
	require.Contains(t, string(last.Data), "outcome-unknown")
}

func TestTimesOfEventsHaveMilliseconds(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 4, 500e6, time.FixedZone("", 3600))
	want := "2026-11-22T09:00:04.500Z"
	records := retry(&job.Job{Kind: testKind, Attempt: 1}, job.Problemf("exit-status", "exit status 1"), at)
	require.Contains(t, string(records[0].Data), `"retry_at":"`+want+`"`)
	require.Contains(t, string(records[1].Data), `"run_at":"`+want+`"`)

	synctest.Test(t, func(t *testing.T) { // where the time has no decimals
		b := node(t, newShared(t))
		id := submitTo(t, b)
		claimFrom(t, b, id)
		want := job.Time(time.Now().Add(job.DefaultTimeout)).String()
		require.Contains(t, string(lastOf(t, b, id).Data), `"timeout_at":"`+want+`"`)
	})
}

package broker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// pulledKind is the model's kind that pull workers work on.
const pulledKind = "pulled"

// hands are where the pull workers of one process get their attempts.
type hands struct{ out <-chan *message.Message }

func newHands(t *rapid.T, b *Broker) *hands {
	out, err := b.Subscriber(0).Subscribe(context.Background(), Topic(pulledKind))
	require.NoError(t, err)
	return &hands{out}
}

// takeLease has a worker ask for work. It gets a job that waits, if there is one.
func (m *model) takeLease(t *rapid.T) {
	var waiting []job.ID
	for _, j := range m.jobs {
		if j.pulled && m.waits(t, j) {
			waiting = append(waiting, j.id)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // it does not wait
	id, lease, err := m.now.Lease(ctx, "w", pulledKind)
	if len(waiting) == 0 {
		require.ErrorIs(t, err, job.ErrNotFound)
		return
	}
	require.NoError(t, err)
	require.Contains(t, waiting, id)
	task := m.hand(t, <-m.hands.out)
	require.Equal(t, id, task.job.id)
	require.Equal(t, lease, task.lease)
	m.hold(task.job, task)
}

// hand returns an attempt that a worker of the living process is given.
func (m *model) hand(t *rapid.T, msg *message.Message) *modelTask {
	task := TaskOf(msg)
	i := slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.id == task.Job.ID })
	require.GreaterOrEqual(t, i, 0)
	return &modelTask{Task: task, job: m.jobs[i], m: msg}
}

// goOn has the workers of the process before say on what they had to say: with the same
// leases, in the next, also those who are to stop.
func (m *model) goOn(t *rapid.T, ran map[*modelJob]*modelTask) {
	for late := time.After(timeToWait); len(ran) > 0; {
		select {
		case msg := <-m.hands.out:
			task := m.hand(t, msg)
			was := ran[task.job]
			require.NotNil(t, was, "it is given once")
			require.Equal(t, was.lease, task.lease)
			delete(ran, task.job)
			m.hold(task.job, task)
		case <-late:
			require.Empty(t, ran, "nobody goes on with them")
		}
	}
}

// lapse lets a lease run out: nobody has heard of its worker.
func (m *model) lapse(t *rapid.T) {
	m.ends(m.says(t, func(task *modelTask) error { return task.settle(nackWith(task, job.ErrLeaseLost), task.lose) }))
}

// settle ends an attempt: a pull worker's by its message, as the Router does, any other
// directly, and so one that may not, whose message would not say so.
func (task *modelTask) settle(answer func(*message.Message) bool, directly func(context.Context) error) error {
	if task.m == nil || task.job.holder != task {
		return directly(context.Background())
	}
	answer(task.m)
	task.m = nil
	<-task.Ended()
	return nil
}

// nackWith says with what the handler has failed.
func nackWith(task *modelTask, err error) func(*message.Message) bool {
	return func(m *message.Message) bool {
		task.err = err
		return m.Nack()
	}
}

// move puts a part record in the place of what the log has of a job.
func (m *model) move(t *rapid.T) {
	j := m.any(t)
	if m.status(t, j).Over() {
		t.Skip("it is archived")
	}
	err := m.now.move(entryOf(m.now, j.id))
	require.True(t, err == nil || errors.Is(err, job.ErrLeaseLost), "%v", err)
}

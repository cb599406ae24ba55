// Package brokertest is the conformance suite of the log: every store behind a
// Broker must pass it.
package brokertest

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// Store is what is tested: Open opens a Broker on it, with the options that say
// where it is filled in. Opened twice, one after the other, it must be the same
// store if Durable.
type Store struct {
	Open    func(t *testing.T, opt broker.Options) *broker.Broker
	Durable bool
}

// Run runs the whole suite; fresh returns a store with nothing in it.
func Run(t *testing.T, fresh func(t *testing.T) Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"a submitted job is there at once", testSubmit},
		{"what was asked for", testRequest},
		{"erased", testErase},
		{"the end of a job is put down as a delivery", testDeliveries},
		{"as its kind has it", testKindsTimes},
		{"not before its time", testRunAt},
		{"one id is one job", testSameID},
		{"one idempotency key is one job", testOnce},
		{"an idempotency key outlives its job", testOnceExpired},
		{"a batch is stored in its order", testBatch},
		{"a batch that does not fit is stored as far as it does", testBatchFull},
		{"one idempotency key is one batch", testBatchOnce},
		{"an idempotency key outlives the jobs of its batch", testBatchExpired},
		{"an erased job of a batch is not made again", testBatchErased},
		{"hostile kinds never reach the store", testHostile},
		{"events are dense, in order, and end once", testLife},
		{"many writers of one job leave no hole", testJoining},
		{"a long job is read page by page while it runs", testPages},
		{"a cursor is valid for its own event only", testCursors},
		{"an attempt that lost its lease writes nothing", testOldHolder},
		{"a failed attempt is followed by another", testRetry},
		{"a failure that may not be retried ends the job", testFinalFailure},
		{"cancel ends a queued job and tells a running one", testCancel},
		{"results are byte for byte what was stored", testResult},
		{"a finished job is read from the archive", testArchive},
		{"a large job is archived in parts", testLargeJob},
		{"a full queue refuses before it stores", testQueueFull},
		{"a pull worker's job is claimed when somebody asks", testLease},
		{"a closing broker takes no jobs and hands back what runs", testHandBack},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
	t.Run("what was stored is there after a restart", func(t *testing.T) {
		if s := fresh(t); s.Durable {
			testRestart(t, s)
		}
	})
	t.Run("a batch is found after a restart", func(t *testing.T) {
		if s := fresh(t); s.Durable {
			testBatchRestart(t, s)
		}
	})
	t.Run("a pull worker's attempt goes on after a restart", func(t *testing.T) {
		if s := fresh(t); s.Durable {
			testLeaseRestart(t, s)
		}
	})
}

// patience is how long the suite waits for what must come. It is no measure of speed: only a
// store that fails ever waits so long.
const patience = time.Minute

// kind is what the suite's jobs are.
const kind = "suite"

// rig is an open Broker with its queue and a fold that checks what it is told.
type rig struct {
	*broker.Broker
	t     *testing.T
	queue *queue.Queue
}

func open(t *testing.T, s Store, change func(*job.Kind)) *rig {
	t.Helper()
	k := job.Kind{Name: kind, Concurrency: 4, Backoff: job.Backoff{First: time.Millisecond, Max: time.Millisecond}, Grace: 50 * time.Millisecond}
	if change != nil {
		change(&k)
	}
	q := queue.New(k)
	check := newChecker(t)
	b := s.Open(t, broker.Options{Kinds: []job.Kind{k}, Queue: q, Folds: []func(*job.Commit){q.Fold, check.fold}})
	r := &rig{Broker: b, t: t, queue: q}
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	if r.Broker != nil {
		require.NoError(r.t, r.Broker.Close())
		r.Broker = nil
	}
}

// submit stores a job with the given input.
func (r *rig) submit(input string) job.ID {
	r.t.Helper()
	id := job.NewID()
	j, err := r.Submit(r.t.Context(), id, &job.Request{Kind: kind, Owner: "somebody", Input: []byte(input), InputType: "text/plain"})
	require.NoError(r.t, err)
	require.Equal(r.t, id, j.ID)
	return id
}

// attempts hands out the claimed jobs, until stop.
func (r *rig) attempts() (next func() (*broker.Task, *message.Message), stop func()) {
	sub := r.Subscriber(0)
	ch, err := sub.Subscribe(r.t.Context(), broker.Topic(kind))
	require.NoError(r.t, err)
	next = func() (*broker.Task, *message.Message) {
		r.t.Helper()
		select {
		case m := <-ch:
			require.NotNil(r.t, m)
			return broker.TaskOf(m), m
		case <-time.After(patience):
			require.FailNow(r.t, "no job was handed out")
			return nil, nil
		}
	}
	return next, func() { require.NoError(r.t, sub.Close()) }
}

// await waits until the job is as cond says.
func (r *rig) await(id job.ID, cond func(job.Job) bool) job.Job {
	r.t.Helper()
	var j job.Job
	require.Eventually(r.t, func() bool {
		var err error
		j, err = r.Job(r.t.Context(), id)
		return err == nil && cond(j)
	}, patience, time.Millisecond, "the job never came to be as expected")
	return j
}

func over(j job.Job) bool { return j.Status.Over() }

// pageSize is how many bytes of events the suite reads at a time.
const pageSize = 64 << 10

// history reads all events behind the cursor.
func (r *rig) history(id job.ID, after job.Cursor) (events []job.Event) {
	r.t.Helper()
	return r.pages(id, after, pageSize)
}

func (r *rig) pages(id job.ID, after job.Cursor, size int) (events []job.Event) {
	r.t.Helper()
	for {
		page, err := r.History(r.t.Context(), id, after, size)
		require.NoError(r.t, err)
		if len(page) == 0 {
			return events
		}
		events = append(events, page...)
		after = page[len(page)-1].Cursor()
	}
}

// types returns the types of the events, and fails unless seq is dense from 1.
func (r *rig) types(id job.ID) (types []job.Type) {
	r.t.Helper()
	for i, e := range r.history(id, job.Cursor{}) {
		require.EqualValues(r.t, i+1, e.Seq)
		require.Equal(r.t, id, e.Job)
		types = append(types, e.Type)
	}
	return types
}

func succeeded(result string) job.Record {
	return job.Record{Type: job.Succeeded, Data: job.MustData(map[string]string{"result": result})}
}

// checker is a fold that fails when the log tells it what cannot be.
type checker struct {
	t   *testing.T
	seq map[job.ID]uint64
}

func newChecker(t *testing.T) *checker { return &checker{t: t, seq: map[job.ID]uint64{}} }

func (c *checker) fold(m *job.Commit) {
	if len(m.Events) == 0 {
		c.seq[m.Job.ID] = m.Job.Cursor.Seq
		return
	}
	if m.Before.Seq != c.seq[m.Job.ID] {
		c.t.Errorf("commit of %s begins at seq %d, after %d", m.Job.ID, m.Before.Seq, c.seq[m.Job.ID])
	}
	for _, e := range m.Events {
		if e.Seq != c.seq[m.Job.ID]+1 {
			c.t.Errorf("commit of %s has seq %d after %d", m.Job.ID, e.Seq, c.seq[m.Job.ID])
		}
		c.seq[m.Job.ID] = e.Seq
	}
}

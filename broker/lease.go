package broker

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millstream/millstream/pkg/job"
)

// A pull worker is another process, maybe on another machine, that asks for its work.
// Its attempts are run here, by the same Router, by a handler that waits for what the
// worker says. Only their beginning and our end are different: a job is claimed when
// somebody asks, and when this process ends the attempt is left as it is, for the next
// process to go on with.

// ask is somebody who wants a job that the queue has handed out.
type ask struct {
	id      job.ID
	worker  string
	claimed chan<- claimed
}

// claimed is the answer: the lease, or why there is none.
type claimed struct {
	lease uint64
	err   error
}

// Lease takes a job of one of the kinds, which must be pull kinds, and has the handler
// that Work was given run its attempt. It waits for one until ctx ends; if ctx has ended
// already, it takes what there is. job.ErrNotFound: there was none.
func (b *Broker) Lease(ctx context.Context, worker string, kinds ...string) (id job.ID, lease uint64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.leasing, func() { cancel(job.ErrDraining) })()
	for {
		if b.leasing.Err() != nil {
			return "", 0, job.ErrDraining
		}
		id, err := b.take(ctx, kinds)
		if err != nil {
			return "", 0, err
		}
		lease, err := b.ask(id, worker)
		if !errors.Is(err, job.ErrLeaseLost) && !errors.Is(err, job.ErrDamaged) { // else it was canceled a moment ago, or is no fault of who asks
			return id, lease, err
		}
	}
}

func (b *Broker) take(ctx context.Context, kinds []string) (job.ID, error) {
	if id, ok := b.queue.TryTake(kinds...); ok {
		return id, nil
	}
	id, err := b.queue.Take(ctx, kinds...)
	if err != nil && !errors.Is(err, job.ErrDraining) {
		return "", job.ErrNotFound
	}
	return id, err
}

// ask has the Subscriber of the job's kind claim it.
func (b *Broker) ask(id job.ID, worker string) (lease uint64, err error) {
	j, ok := b.standing(id)
	if !ok {
		b.queue.Return(id, 0)
		return 0, job.ErrLeaseLost
	}
	answer := make(chan claimed, 1)
	select {
	case b.asks[j.Kind] <- ask{id, worker, answer}:
		c := <-answer
		return c.lease, c.err
	case <-b.leasing.Done():
		b.queue.Return(id, 0)
		return 0, job.ErrDraining
	}
}

// serveLeases goes on with the attempts of the kind that another process has left, and
// claims jobs for those who ask. Its attempts are not waited for: once nobody may take a
// job any more, they are left.
func (s *Subscriber) serveLeases(ctx context.Context, kind string, out chan<- *message.Message, tasks *sync.WaitGroup) {
	for _, t := range s.b.left(kind) {
		tasks.Go(func() { s.see(ctx, t, out) })
	}
	for {
		select {
		case a := <-s.b.asks[kind]:
			tasks.Go(func() { s.answer(ctx, a, out) })
		case <-ctx.Done():
			return
		}
	}
}

func (s *Subscriber) answer(ctx context.Context, a ask, out chan<- *message.Message) {
	t, err := s.claim(a.id, a.worker)
	if err != nil {
		if !errors.Is(err, job.ErrLeaseLost) {
			err = unavailable(err)
		}
		a.claimed <- claimed{err: err}
		return
	}
	a.claimed <- claimed{lease: t.shown()}
	s.see(ctx, t, out)
}

// left returns the attempts of a pull kind that nobody runs: another process began them.
func (b *Broker) left(kind string) (tasks []*Task) {
	b.running(func(e *entry) {
		j := &e.job
		if j.Kind == kind && j.Lease > 0 && !j.LeasedUntil.IsZero() && e.task == nil {
			tasks = append(tasks, &Task{b: b, e: e, lease: j.Lease, timeoutAt: j.LeasedUntil, resumed: true, ended: make(chan struct{})})
		}
	})
	for _, t := range tasks {
		t.begin()
	}
	return tasks
}

// leased reports whether the attempt is a pull worker's.
func (t *Task) leased() bool { return !t.Job.LeasedUntil.IsZero() }

// leave leaves the attempt to the next process.
func (t *Task) leave(context.Context) error { return nil }

// lose ends an attempt whose worker is gone.
func (t *Task) lose(ctx context.Context) error {
	return t.b.append(ctx, t.e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		_, holds := held(t.lease)(j)
		return []job.Record{lost(j)}, holds
	}})
}

// Earlier calls each with what the attempt had stored when this process began to run
// it; of one that has just begun there is nothing.
func (t *Task) Earlier(ctx context.Context, each func(*job.Record)) error {
	if !t.resumed {
		return nil
	}
	return t.b.each(ctx, t.Job.ID, 0, readAhead, func(_ uint64, m *frame) bool {
		for i := range m.Records {
			if m.Records[i].Seq > t.lease {
				each(&m.Records[i])
			}
		}
		return true
	})
}

// Finish says that the attempt ends as its pull worker says, and not because something
// became of the worker.
func (t *Task) Finish() { t.finish.Store(t.lease) }

// said notes with the record that ends the attempt whose word it is.
func (t *Task) said(records ...job.Record) []job.Record {
	if lease := t.finish.Load(); lease > 0 {
		records[len(records)-1].Private = &job.Private{Finish: lease}
	}
	return records
}

// Ended is closed when how the attempt ended is stored, or cannot be any more.
func (t *Task) Ended() <-chan struct{} { return t.ended }

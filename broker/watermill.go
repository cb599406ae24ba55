package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// topicPrefix is what a Watermill topic of jobs begins with; the kind follows.
const topicPrefix = "jobs."

// Topic returns the Watermill topic of a kind's jobs.
func Topic(kind string) string { return topicPrefix + kind }

func kindOf(topic string) (string, error) {
	kind, ok := strings.CutPrefix(topic, topicPrefix)
	if !ok || !job.ValidKind(kind) {
		return "", fmt.Errorf("topic %q: want %s<kind>", topic, topicPrefix)
	}
	return kind, nil
}

// Publisher is a Watermill Publisher: a message becomes a queued job whose input
// is its payload. Publishing a message again, by its UUID, is no second job.
type Publisher struct {
	b      *Broker
	mu     sync.RWMutex
	closed bool
}

var _ message.Publisher = (*Publisher)(nil)

// Publisher returns a Publisher of jobs.
func (b *Broker) Publisher() *Publisher { return &Publisher{b: b} }

// Publish stores each message as a job; those before the first that fails are
// stored.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return errors.New("the publisher is closed")
	}
	kind, err := kindOf(topic)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := p.b.publishOnce(kind, m); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
	}
	return nil
}

// publishOnce submits a message as a job, unless there is or was one of its UUID:
// of a finished job the log has nothing left that would refuse a second.
func (b *Broker) publishOnce(kind string, m *message.Message) error {
	id := job.IDFor(kind, m.UUID)
	j, err := b.Job(m.Context(), id)
	switch {
	case err == nil && j.Kind != kind:
		return fmt.Errorf("job %s is of kind %s already", id, j.Kind)
	case !errors.Is(err, job.ErrNotFound):
		return err
	}
	_, err = b.Submit(m.Context(), id, &job.Request{
		Kind: kind, Input: m.Payload, InputType: m.Metadata.Get("content-type"), Message: m.UUID, Metadata: m.Metadata,
	})
	return err
}

// Close refuses further messages.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

type taskKey struct{}

// TaskOf returns the task of a message that a Subscriber handed out; nil of any
// other.
func TaskOf(m *message.Message) *Task {
	t, _ := m.Context().Value(taskKey{}).(*Task)
	return t
}

// Subscriber is a Watermill Subscriber: it claims the jobs that may run and hands
// them out. Ack means that the job succeeded, with what Task.Succeed left; Nack
// that the attempt failed, with the error the Router's middleware left in the task.
type Subscriber struct {
	b      *Broker
	finish time.Duration

	mu        sync.Mutex // protects the start of goroutines against Close
	taking    context.Context
	stop      context.CancelFunc // ends taking
	running   context.Context
	interrupt context.CancelFunc // ends running
	wg        sync.WaitGroup
}

var _ message.Subscriber = (*Subscriber)(nil)

// Subscriber returns a Subscriber of jobs. On Close its handlers have finish to
// end by themselves; whenever a message's context has ended, they have the kind's
// Grace before the job is taken from them.
func (b *Broker) Subscriber(finish time.Duration) *Subscriber {
	s := &Subscriber{b: b, finish: finish}
	s.taking, s.stop = context.WithCancel(b.ctx)
	s.running, s.interrupt = context.WithCancel(b.ctx)
	return s
}

// Subscribe hands out jobs of the topic's kind, as many at once as the kind allows,
// until ctx ends.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	kind, err := kindOf(topic)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taking.Err() != nil {
		return nil, errors.New("the subscriber is closed")
	}
	out := make(chan *message.Message)
	s.wg.Go(func() {
		defer close(out)
		s.serve(ctx, kind, out)
	})
	return out, nil
}

// serve claims jobs until ctx or the taking ends, and waits for those it handed out.
func (s *Subscriber) serve(ctx context.Context, kind string, out chan<- *message.Message) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.running, cancel)()
	taking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.taking, cancel)()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	if s.b.kind(kind).Lease > 0 {
		s.serveLeases(taking, kind, out, &tasks)
		return
	}
	for {
		id, err := s.b.queue.Take(taking, kind)
		if err != nil {
			return
		}
		tasks.Go(func() { s.run(running, id, out) })
	}
}

// claimPause is how long a job waits that still waits, but could not be claimed: the
// store is sick, or the job is, and asking at once again heals neither.
const claimPause = time.Second

// run claims one job and sees it through.
func (s *Subscriber) run(ctx context.Context, id job.ID, out chan<- *message.Message) {
	if t, err := s.claim(id, ""); err == nil {
		s.see(ctx, t, out)
	}
}

// claim claims one job that was taken from the queue.
func (s *Subscriber) claim(id job.ID, worker string) (*Task, error) {
	t, err := s.b.claim(s.b.ctx, id, worker) // not of a context that ends: a claim that is on its way is not given up
	if err != nil {
		if !errors.Is(err, job.ErrLeaseLost) {
			s.b.log.Error("job not claimed", zap.String("job", string(id)), zap.Error(err))
		}
		s.b.queue.Return(id, claimPause)
	}
	return t, err
}

// see sees an attempt through.
func (s *Subscriber) see(ctx context.Context, t *Task, out chan<- *message.Message) {
	defer t.end()
	settle := s.handOut(ctx, t, out)
	s.persist(t, settle)
}

// handOut gives the task to a handler and returns how its attempt ends.
func (s *Subscriber) handOut(ctx context.Context, t *Task, out chan<- *message.Message) func(context.Context) error {
	mctx, cancel := context.WithCancelCause(context.WithValue(t.ctx, taskKey{}, t))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(job.ErrDraining) })()
	m := t.message(mctx)
	untaken := mctx.Done()
	if t.resumed && errors.Is(context.Cause(mctx), job.ErrCanceled) {
		untaken = ctx.Done() // its worker is still to be told
	}
	select {
	case out <- m:
	case <-untaken:
		return t.interrupted(context.Cause(mctx))
	}
	ended := mctx.Done()
	var late <-chan time.Time
	for {
		select {
		case <-m.Acked():
			return t.succeed
		case <-m.Nacked():
			return t.nacked(context.Cause(mctx))
		case <-ended: // the handler is told; it has a moment
			ended = nil
			late = time.After(s.b.kind(t.Job.Kind).Grace)
		case <-late:
			return t.abandoned(context.Cause(mctx))
		case <-s.b.ctx.Done(): // nothing can be stored any more
			return t.interrupted(job.ErrDraining)
		}
	}
}

// message returns the job as a Watermill message.
func (t *Task) message(ctx context.Context) *message.Message {
	uuid := string(t.Job.ID)
	var metadata message.Metadata
	if r := t.Job.Request; r != nil {
		metadata = r.Metadata
		if r.Message != "" {
			uuid = r.Message
		}
	}
	m := message.NewMessage(uuid, t.Input)
	for k, v := range metadata {
		m.Metadata.Set(k, v)
	}
	m.SetContext(ctx)
	return m
}

// nacked returns how an attempt ends whose handler failed; cause is why its
// context had ended, if it had.
func (t *Task) nacked(cause error) func(context.Context) error {
	err := t.err
	switch {
	case cause != nil && !final(err):
		return t.interrupted(cause)
	case final(err): // whatever else is in it
	case errors.Is(err, job.ErrLeaseLost):
		return t.lose
	case errors.Is(err, job.ErrDraining):
		return t.back
	case err == nil:
		err = errors.New("the message was nacked")
	}
	return func(ctx context.Context) error { return t.fail(ctx, err) }
}

// final reports whether err says that the work must not be done again, whatever
// ended the attempt.
func final(err error) bool {
	var p *job.Problem
	return errors.As(err, &p) && !p.Retryable && !p.Is(job.ErrDraining) && !p.Is(job.ErrLeaseLost)
}

// interrupted returns how an attempt ends that was told to end.
func (t *Task) interrupted(cause error) func(context.Context) error {
	var p *job.Problem
	if errors.Is(cause, job.ErrCanceled) || errors.As(cause, &p) && !errors.Is(cause, job.ErrDraining) {
		return func(ctx context.Context) error { return t.fail(ctx, cause) } // fail knows of the cancel request
	}
	if t.leased() {
		return t.leave
	}
	return t.back
}

// abandoned returns how an attempt ends whose handler did not return in time.
func (t *Task) abandoned(cause error) func(context.Context) error {
	if t.b.kind(t.Job.Kind).AtMostOnce {
		cause = job.Problemf("outcome-unknown", "the worker was told to end (%v) and did not", cause)
	}
	return t.interrupted(cause)
}

// persist stores the end of an attempt, again and again while the store does not
// answer: the work is done, and nobody else knows.
func (s *Subscriber) persist(t *Task, settle func(context.Context) error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := settle(s.b.ctx)
		if err == nil || errors.Is(err, job.ErrLeaseLost) || s.b.ctx.Err() != nil {
			return
		}
		if errors.Is(err, job.ErrFold) || errors.Is(err, job.ErrTooLarge) {
			settle = func(ctx context.Context) error { return t.fail(ctx, unstorable(err)) }
		}
		select {
		case <-time.After(wait):
		case <-s.b.ctx.Done():
			return
		}
	}
}

// unstorable is the error of an attempt whose end the log cannot take.
func unstorable(err error) *job.Problem { return job.Problemf("invalid-result", "%v", err) }

// Close stops handing out and waits for the handlers: for finish undisturbed, then
// for their kind's Grace with their contexts ended. What is unfinished then is queued again,
// its attempt not used up.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	defer time.AfterFunc(s.finish, s.interrupt).Stop()
	s.wg.Wait()
	s.interrupt()
	return nil
}

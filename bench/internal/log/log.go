// Package log is Millstream without its HTTP side: workers, log and tapes, put
// together as package millstream does, and one fold more that sees when an event
// is on its tape. That moment is not to be seen from outside.
package log

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/hub"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
	"github.com/millstream/millstream/pkg/worker"
)

// Config says what runs.
type Config struct {
	Data string // directory of the store
	Jobs int    // that say events
}

// Log is the role.
type Log struct {
	broker *broker.Broker
	fold   atomic.Pointer[func(*job.Commit)] // nil: nobody looks
	tasks  struct {
		sync.Mutex
		running []*worker.Task
		all     chan struct{} // closed when as many run as should
	}
}

const kind = "talk"

// Open opens the log and returns when its jobs run.
func (l *Log) Open(c Config, _ *struct{}) error {
	rules := job.Kind{Name: kind, Concurrency: c.Jobs, QueueLimit: c.Jobs, Timeout: time.Hour}.WithDefaults()
	q, late := queue.New(rules), new(lateLog)
	h := hub.New(late, nil, hub.Options{})
	var err error
	l.broker, err = broker.Open(context.Background(), broker.Options{
		Dir: c.Data, MaxStore: 20 << 30, Kinds: []job.Kind{rules}, Queue: q,
		Folds: []func(*job.Commit){q.Fold, h.Fold, l.see}, Tail: h,
	})
	if err != nil {
		return err
	}
	late.Broker = l.broker
	l.tasks.all = make(chan struct{})
	go func() { _ = l.broker.Work(context.Background(), 0, l.attempt(c.Jobs)) }() // until the process ends
	return l.submit(c.Jobs)
}

// lateLog is the log that the hub asks; there is none when the hub is made.
type lateLog struct{ *broker.Broker }

// submit submits n jobs and waits until they run.
func (l *Log) submit(n int) error {
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(64)
	for range n {
		g.Go(func() error {
			_, err := l.broker.Submit(ctx, job.NewID(), &job.Request{Kind: kind})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	<-l.tasks.all
	return nil
}

// attempt returns what runs an attempt: a job that talks when Talk tells it to.
func (l *Log) attempt(jobs int) broker.Handler {
	limits := worker.Limits{Events: math.MaxInt32, Bytes: 1 << 40}
	work := func(ctx context.Context, t *worker.Task) (any, error) {
		l.tasks.Lock()
		if l.tasks.running = append(l.tasks.running, t); len(l.tasks.running) == jobs {
			close(l.tasks.all)
		}
		l.tasks.Unlock()
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return func(ctx context.Context, t *broker.Task) error {
		_, err := worker.Run(ctx, work, worker.Attempt{Job: t.Job, Sink: t}, worker.Options{Limits: limits})
		return err
	}
}

// see is the last fold: what it is told of is on its tape.
func (l *Log) see(c *job.Commit) {
	if look := l.fold.Load(); look != nil {
		(*look)(c)
	}
}

// Talk says how to talk.
type Talk struct {
	Window int // events that a job has said and not yet on its tape
	For    time.Duration
}

// Said is what came of it.
type Said struct {
	Events, Messages int // on their tapes, and how they were stored
	Elapsed          time.Duration
}

// Talk lets each job say events, so many ahead of its tape.
func (l *Log) Talk(t Talk, said *Said) error {
	windows := map[job.ID]chan struct{}{}
	for _, task := range l.tasks.running {
		windows[task.ID()] = make(chan struct{}, t.Window)
	}
	look := func(c *job.Commit) { // one at a time: the log has an order
		said.Messages++
		said.Events += len(c.Events)
		for range c.Events {
			<-windows[c.Job.ID]
		}
	}
	l.fold.Store(&look)
	begin := time.Now()
	g := new(errgroup.Group)
	for _, task := range l.tasks.running {
		g.Go(func() error { return talk(task, windows[task.ID()], begin.Add(t.For)) })
	}
	err := g.Wait()
	said.Elapsed = time.Since(begin)
	l.fold.Store(nil)
	return err
}

// talk says events until the end, and waits until the last is on the tape.
func talk(task *worker.Task, window chan struct{}, end time.Time) error {
	for time.Now().Before(end) {
		window <- struct{}{}
		if err := task.Emit(payload.Type, payload.Now()); err != nil {
			return err
		}
	}
	for range cap(window) {
		window <- struct{}{}
	}
	return nil
}

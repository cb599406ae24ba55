package mill

import (
	"context"
	"sync"

	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
)

// tasks are the steered jobs that run.
type tasks struct {
	mu      sync.Mutex // protects the fields below
	running []*millstream.Task
	finish  chan struct{} // closed to end them; nil: none runs
}

// run is the work of a steered job.
func (t *tasks) run(ctx context.Context, task *millstream.Task) (any, error) {
	select {
	case <-t.add(task):
		return "done", nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *tasks) add(task *millstream.Task) (finish <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.finish == nil {
		t.finish = make(chan struct{})
	}
	t.running = append(t.running, task)
	return t.finish
}

// Publish lets each steered job say n events, one behind the other.
func (s *Server) Publish(n int, _ *struct{}) error {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	for _, task := range s.tasks.running {
		for range n {
			if err := task.Emit(payload.Type, payload.Now()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pace lets the steered jobs say events in turn, and answers with their number.
func (s *Server) Pace(p payload.Pacing, said *int) (err error) {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	*said, err = p.Each(func(n int) error {
		return s.tasks.running[n%len(s.tasks.running)].Emit(payload.Type, payload.Now())
	})
	return err
}

// Running answers with the steered jobs that run.
func (s *Server) Running(_ struct{}, ids *[]job.ID) error {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	for _, task := range s.tasks.running {
		*ids = append(*ids, task.ID())
	}
	return nil
}

// Finish ends the steered jobs that run.
func (s *Server) Finish(_ struct{}, _ *struct{}) error {
	s.tasks.mu.Lock()
	defer s.tasks.mu.Unlock()
	if s.tasks.finish != nil {
		close(s.tasks.finish)
	}
	s.tasks.running, s.tasks.finish = nil, nil
	return nil
}

package mill

import (
	"bytes"
	"context"
	"time"

	"github.com/millstream/millstream/pkg/millstream"
)

// What there is of the heavy kind.
const (
	HeavyQueue  = 1000                   // jobs that wait at most
	HeavyAtOnce = 8                      // the default of a kind
	HeavyTime   = 500 * time.Millisecond // of one: few of the flood are over when it is measured
)

var heavyLine = append(bytes.Repeat([]byte("x"), 1023), '\n')

// heavy is the work of a heavy job: output, until its time is over or Calm.
func (s *Server) heavy(ctx context.Context, t *millstream.Task) (any, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(HeavyTime); time.Now().Before(end) && !s.calm.Load(); <-tick.C {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if _, err := t.Write(heavyLine); err != nil {
			return nil, err
		}
	}
	return "done", nil
}

// Calm says whether heavy jobs end at once.
func (s *Server) Calm(calm bool, _ *struct{}) error {
	s.calm.Store(calm)
	return nil
}

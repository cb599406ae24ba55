package mill

import (
	"context"
	"time"

	"github.com/millstream/millstream/pkg/millstream"
)

// Ticks is the input of a job of kind Ticking: how often it says how far it is, and how
// often a second.
type Ticks struct {
	Steps int           `json:"steps"`
	Every time.Duration `json:"every"`
}

func ticking(ctx context.Context, t *millstream.Task) (any, error) {
	var in Ticks
	if err := t.Bind(&in); err != nil {
		return nil, err
	}
	tick := time.NewTicker(in.Every)
	defer tick.Stop()
	for n := range in.Steps {
		select {
		case <-tick.C:
			t.Progress(float64(n+1), float64(in.Steps), "working")
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return map[string]int{"steps": in.Steps}, nil
}

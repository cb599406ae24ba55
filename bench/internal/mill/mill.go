// Package mill is the server under measurement: a Millstream as it is, with
// kinds whose jobs say what the benchmark tells them to.
package mill

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// The kinds that are served.
const (
	Wait    = "wait"    // one runs for ever, the others wait for it
	Instant = "instant" // ends at once
	Steered = "steered" // says what Publish and Pace tell it to, until Finish
	Heavy   = "heavy"   // writes much
	Ticking = "ticking" // says how far it is, from time to time
)

// Config says how the server runs.
type Config struct {
	Data    string // directory of the store
	Streams int    // open at once

	PowerSafe bool
}

// Server is the role.
type Server struct {
	tasks  tasks
	calm   atomic.Bool // heavy jobs end at once
	cancel context.CancelFunc
	ended  chan error
}

// Run starts the server and answers with its URL once it can be reached.
func (s *Server) Run(c Config, url *string) error {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	ready := make(chan string, 1)
	s.ended = make(chan error, 1)
	config := millstream.Config{
		Listen: "127.0.0.1:0", Data: c.Data, PowerSafe: c.PowerSafe, Heartbeat: time.Hour, // no beats among what is counted
		Limits: millstream.Limits{EventsPerJob: math.MaxInt32, BytesPerJob: 1 << 40, Streams: c.Streams},
		Webhooks: millstream.Webhooks{
			Secrets: []string{standardwebhooks.NewSecret()},
			Allow:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		},
		Ready: func(url string) { ready <- url },
	}
	go func() { s.ended <- millstream.New(config, s.kinds()...).Run(ctx) }()
	select {
	case *url = <-ready:
		return nil
	case err := <-s.ended:
		return fmt.Errorf("millstream ended: %w", err)
	}
}

// Stop stops the server in good order.
func (s *Server) Stop(_ struct{}, _ *struct{}) error {
	s.cancel()
	return <-s.ended
}

// kinds returns the kinds that are served. All but the heavy one take as many jobs as there come.
func (s *Server) kinds() []millstream.Kind {
	kinds := []millstream.Kind{
		millstream.Func(Wait, wait),
		millstream.Func(Instant, func(context.Context, *millstream.Task) (any, error) { return nil, nil }),
		millstream.Func(Steered, s.tasks.run),
	}
	for i, concurrency := range []int{1, 64, math.MaxInt32} {
		kinds[i].Concurrency, kinds[i].QueueLimit, kinds[i].Timeout = concurrency, math.MaxInt32, time.Hour
		kinds[i].MaxAttempts = math.MaxInt32 // each kill -9 takes one
	}
	heavy := millstream.Func(Heavy, s.heavy)
	heavy.Concurrency, heavy.QueueLimit = HeavyAtOnce, HeavyQueue
	return append(kinds, heavy, millstream.Func(Ticking, ticking))
}

func wait(ctx context.Context, _ *millstream.Task) (any, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Path returns the address of a job's events.
func Path(id job.ID) string { return "/v1/jobs/" + string(id) + "/events" }

// Package webhook sends the events of jobs to the URLs that were asked for, signed, again
// and again until they are received: at least once, days of outage and restarts included.
//
//	broker: a delivery is put down ─▶ Due ─▶ lines.go: whose turn is it ─▶ try.go: POST, signed
//	                                            ▲ again, later (schedule.go)    │
//	                                            └────────────────◀──────────────┤
//	broker: delivered, or a dead letter ◀───────────────────────────────────────┘
//
// What is kept of a delivery, and what is sent, is in the store; here is only when whose
// turn it is. A receiver that is down costs one connection at a time (host.go), and holds
// up no other. The address that is connected to is looked at, not the one that was asked
// for (guard.go).
package webhook

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

// Store is where deliveries are kept.
type Store interface {
	// Delivery returns a delivery; job.ErrNotFound: its job was erased.
	Delivery(ctx context.Context, id job.ID, event string) (job.Delivery, error)
	// History returns events of a job behind the cursor; see broker.Broker.History.
	History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error)
	// Followed returns what SetFollowed has stored: how far the events of a live job were sent.
	Followed(ctx context.Context, id job.ID) (job.Cursor, error)
	SetFollowed(ctx context.Context, id job.ID, after job.Cursor) error
	// Tried stores what came of a try: the delivery as it is now, pending or settled.
	// job.ErrNotFound: its job was erased, or it was replayed.
	Tried(ctx context.Context, d *job.Delivery) error
}

// Options say how a Sender sends.
type Options struct {
	Keys  standardwebhooks.Keys // that sign, all of them; none: nothing is sent
	Allow []netip.Prefix        // addresses that may be connected to though they are not public ones
	Log   *zap.Logger
}

// Sender makes the deliveries it is told of.
type Sender struct {
	store         Store
	keys          standardwebhooks.Keys
	guard         guard
	log           *zap.Logger
	pains         *zap.Logger // the same, for what may come of each delivery while the store is in trouble
	secure, plain http.RoundTripper

	mu      sync.Mutex // protects the fields below, every host, and the lanes
	hosts   map[string]*host
	follow  map[job.ID]*follower
	under   map[*claimed]context.CancelFunc // that end the tries under way
	waiting int                             // deliveries, of all hosts
	wake    chan struct{}                   // one slot: what comes first has changed

	quick, slow *lane
	aside       int // tries under way that have left the quick lane
}

// New returns a Sender that sends nothing before Run.
func New(store Store, opt Options) *Sender {
	s := &Sender{
		store: store, keys: opt.Keys, guard: newGuard(opt.Allow), log: opt.Log, pains: opt.Log.WithOptions(zap.WrapCore(seldom)),
		hosts: map[string]*host{}, follow: map[job.ID]*follower{}, under: map[*claimed]context.CancelFunc{}, wake: make(chan struct{}, 1),
		quick: newLane(), slow: newLane(),
	}
	s.secure, s.plain = transport(s.guard.public), transport(s.guard.listed)
	return s
}

// seldom tells each message once in ten seconds: what ails one delivery ails all.
func seldom(c zapcore.Core) zapcore.Core {
	return zapcore.NewSamplerWithOptions(c, 10*time.Second, 1, 0)
}

// graceTime is how long tries that are under way may take yet when Run is to end: those that
// do not end count for nothing, and are made again by the next process.
const graceTime = 2 * time.Second

// Run makes deliveries when they are due, until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	if len(s.keys) == 0 {
		if n := s.Waiting(); n > 0 {
			s.log.Warn("webhooks wait: there is no secret to sign them with", zap.Int("deliveries", n))
		}
		return
	}
	tries, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var busy sync.WaitGroup
	for ctx.Err() == nil {
		t, wait := s.claim(time.Now())
		if t == nil {
			s.rest(ctx, wait)
			continue
		}
		busy.Go(func() { s.deliver(tries, t) })
	}
	timer := time.AfterFunc(graceTime, cut)
	defer timer.Stop()
	busy.Wait()
}

// rest returns after that time, or when something else comes first.
func (s *Sender) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.wake:
	case <-ctx.Done():
	}
}

// Waiting returns how many deliveries wait for their turn.
func (s *Sender) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

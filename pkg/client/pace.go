package client

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/millstream/millstream/pkg/job"
)

const (
	firstRetry = time.Second            // until the stream names its own: what a restart takes
	minRetry   = 100 * time.Millisecond // whatever a stream says: nobody is asked a thousand times a second
	maxRetry   = 2 * time.Minute        // twice the longest the contract has; more is a mistake
	maxPause   = 30 * time.Second       // between two tries to reach a server that is away
)

// pace says how long to wait for the next connection. A stream that was cut is
// resumed after the time it named itself, which the server has spread already. A
// server that is away is tried ever more seldom, and not for ever.
type pace struct {
	pause    time.Duration // named by the stream
	patience time.Duration
	backoff  backoff.ExponentialBackOff
	lost     time.Time // of the first failure since the last good sign; zero: none
}

func newPace(patience time.Duration) pace {
	p := pace{patience: patience, backoff: backoff.ExponentialBackOff{RandomizationFactor: 0.5, Multiplier: 2}}
	p.retry(firstRetry)
	return p
}

// retry takes the time a stream has named.
func (p *pace) retry(d time.Duration) {
	p.pause = min(max(d, minRetry), maxRetry)
	p.backoff.InitialInterval = max(p.pause, time.Millisecond)
	p.backoff.MaxInterval = max(p.pause, maxPause)
}

// good forgets the failures so far.
func (p *pace) good() { p.lost = time.Time{} }

// next returns how long to wait after a connection that ended with err, and
// whether to go on at all.
func (p *pace) next(err error) (time.Duration, bool) {
	if errors.Is(err, errCut) {
		p.good()
		return p.pause, true
	}
	if p.lost.IsZero() {
		p.lost = time.Now()
		p.backoff.Reset()
	}
	return max(p.backoff.NextBackOff(), asked(err)), time.Since(p.lost) < p.patience
}

// asked returns the time to wait that a refusal names.
func asked(err error) time.Duration {
	if p := (*job.Problem)(nil); errors.As(err, &p) {
		return min(p.RetryAfter, maxRetry)
	}
	return 0
}

package webhook

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// schedule is how long each try waits after the one before it: the example of Standard
// Webhooks, 75 hours in all, which is a long week-end.
var schedule = [...]time.Duration{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

const (
	// spread is by how much of itself a wait is longer at the most: what failed together
	// shall not come back together.
	spread = 0.1
	// patience is after what time a delivery is given up, however many tries are left: a
	// receiver may put each of them off. The schedule with its spread takes 83 hours.
	patience = 96 * time.Hour
	// maxRetryAfter is how long a receiver may put off the next try.
	maxRetryAfter = 24 * time.Hour
	// longestWait is the longest that there is between two tries.
	longestWait = maxRetryAfter + time.Duration(spread*float64(maxRetryAfter))
)

// waitAfter returns the wait behind so many tries, with its spread; ok is false if there
// is no other.
func waitAfter(tries int) (wait time.Duration, ok bool) {
	if tries >= len(schedule) {
		return 0, false
	}
	wait = schedule[tries]
	return wait + time.Duration(rand.Float64()*spread*float64(wait)), true
}

// retryAfter reads a Retry-After (RFC 9110 10.2.3); 0: there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	wait := time.Duration(0)
	if n, err := strconv.ParseUint(text, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return min(max(0, wait), maxRetryAfter)
}

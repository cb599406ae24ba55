package queue

import (
	"math"
	"time"
)

// paceTime is how far back the pace of a line is looked at: minutes ago another load may
// have been on it, and a single slow job is no pace.
const paceTime = time.Minute

// pace is how fast jobs leave a line: a count of them that fades.
type pace struct {
	begin, last time.Time
	count       float64
}

// leave counts one job that left.
func (p *pace) leave(now time.Time) {
	if p.begin.IsZero() {
		p.begin, p.last = now, now
	}
	p.count = p.faded(now) + 1
	p.last = now
}

func (p *pace) faded(now time.Time) float64 { return p.count * fading(now.Sub(p.last)) }

func fading(d time.Duration) float64 { return math.Exp(-max(0, d.Seconds()) / paceTime.Seconds()) }

// timeFor returns how long it takes until n more have left; ok is false if none ever did.
func (p *pace) timeFor(n int, now time.Time) (d time.Duration, ok bool) {
	if p.begin.IsZero() {
		return 0, false
	}
	if left := p.each(p.last)*float64(n) - now.Sub(p.last).Seconds(); left > 0 { // since the last one left, the next has come nearer
		return seconds(left), true
	}
	return seconds(p.each(now) * float64(n)), true // it is late: who knows when it comes
}

// each returns in how many seconds one leaves, as seen at now.
func (p *pace) each(now time.Time) float64 {
	window := paceTime.Seconds() * (1 - fading(now.Sub(p.begin))) // what of it there was
	return max(window, 1) / p.faded(now)
}

// seconds returns so many, or maxRetry: also if a pace has faded to nothing.
func seconds(n float64) time.Duration {
	return time.Duration(min(n, maxRetry.Seconds()) * float64(time.Second))
}

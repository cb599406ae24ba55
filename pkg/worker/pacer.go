package worker

import (
	"context"
	"math"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

const (
	// storeTimeout is how long the store may take for one call once the attempt
	// has been ended: as long as a lease lives, then the job is lost anyway.
	storeTimeout = 30 * time.Second

	// lastWords is how long an attempt may talk after it has been told to end: as
	// long as a command has before it is killed.
	lastWords = defaultGrace

	// ownTime is the longest that an event which cannot be joined has to last: what
	// comes faster than a hundred a second nobody reads. To make it wait for longer
	// would save no event, and only use up the attempt's time. All that there can be of
	// them take at most half of that.
	ownTime = 10 * time.Millisecond

	// forever stands for no time at all: there is nothing to wait for.
	forever = time.Duration(math.MaxInt64)
)

var errStoreSilent = func() error {
	p := job.Problemf("storage-unavailable", "the store did not answer for %s", storeTimeout)
	p.Retryable = true
	return p
}()

// pace stores what comes, until the outbox is closed and empty, or the store
// refuses.
func (o *outbox) pace() {
	defer close(o.done)
	for {
		batch, wait, more := o.poll(time.Now())
		switch {
		case len(batch) > 0:
			o.store(batch)
		case !more:
			return
		default:
			o.sleep(wait)
		}
	}
}

// poll returns what is to be stored now, or else how long to wait for more, and
// whether there can be any.
func (o *outbox) poll(now time.Time) (batch []*item, wait time.Duration, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wait = o.ripen(now)
	gap := o.turn().Sub(now)
	switch {
	case o.err != nil:
		return nil, 0, false
	case len(o.queue) == 0:
		return nil, wait, !o.closed
	case gap <= 0 || o.closed || o.haste:
		return o.take(), 0, true
	}
	return o.takeFull(), min(wait, gap), true
}

// turn returns when the next batch may go. Text waits for its pace, more and more
// of it goes into one event; what cannot be joined holds up whoever says it, and
// waits for no longer than it has to.
func (o *outbox) turn() time.Time {
	if crowded(o.queue) {
		return o.nextOwn
	}
	return o.next
}

// crowded reports whether some of the items could not be joined, however long they
// waited: events of the worker's own, or lines of more streams than may wait.
func crowded(items []*item) bool {
	n := 0
	for _, it := range items {
		if !textual(it.typ) && it.typ != job.Progress {
			return true
		}
		if !it.full {
			n++
		}
	}
	return n > maxDistinct
}

// ripen moves to the queue what was held until now, and returns how long until
// the next will be due.
func (o *outbox) ripen(now time.Time) time.Duration {
	wait := forever
	if rest := incomplete(o.partial); len(o.partial) > rest {
		if left := o.due.Sub(now); left > 0 {
			wait = left
		} else {
			o.flushPartial(rest)
		}
	}
	if o.meter.held != nil {
		if left := o.meter.due.Sub(now); left > 0 {
			wait = min(wait, left)
		} else {
			o.flushProgress()
		}
	}
	return wait
}

// sleep waits for a nudge, or for d.
func (o *outbox) sleep(d time.Duration) {
	if d == forever {
		<-o.wake
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-o.wake:
	case <-timer.C:
	}
}

// store stores the items, in as many messages as they need.
func (o *outbox) store(items []*item) {
	recs := make([]job.Record, len(items))
	for i, it := range items {
		recs[i] = job.Record{Type: it.typ, Data: o.encode(it)}
	}
	for len(recs) > 0 {
		n := batchLen(recs)
		err := o.call(func(ctx context.Context) error { return o.sink.Append(ctx, recs[:n]...) })
		if err != nil {
			return
		}
		recs = recs[n:]
	}
	o.count(items)
}

// besideData is about what a record takes beside its data.
const besideData = 256

// batchLen returns how many of the records make one message.
func batchLen(recs []job.Record) int {
	size := 0
	for i := range recs {
		size += len(recs[i].Data) + besideData
		if i > 0 && size > maxMessage {
			return i
		}
	}
	return len(recs)
}

// count takes note of what the job has used, and of when the next batch may go
// after this one: each event of the second half of the budget has its time.
func (o *outbox) count(batch []*item) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events, o.bytes = o.sink.Used()
	o.away -= len(batch)
	o.moved.Broadcast()
	n := time.Duration(max(0, min(paced(batch), o.events-o.lim.Events/2)))
	now := time.Now()
	each := o.interval(now)
	o.nextOwn = later(o.nextOwn, now).Add(n * min(each, o.own))
	if n > 0 && crowded(batch) {
		o.next = now.Add(each) // text does not pay for what did not wait
		return
	}
	o.next = later(o.next, now).Add(n * each)
}

// paced returns how many of the items had to wait for their time.
func paced(items []*item) (n int) {
	for _, it := range items {
		if !it.full {
			n++
		}
	}
	return n
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// interval returns the time that one event has to last: what is left of the budget
// is spread over the rest of the attempt's time. If events that could not be joined
// have used it up, text still has a hundredth of it: somebody watches.
func (o *outbox) interval(now time.Time) time.Duration {
	rest := max(o.lim.Events-o.events-o.reserve(), o.lim.Events/100, 1)
	return max(o.until.Sub(now), time.Second) / time.Duration(rest)
}

// reserve returns how many events are kept back: half of those there were to pace
// at first for the next attempt, or up to so many for full pieces of text, which
// do not wait and are as many as the limit of bytes allows.
func (o *outbox) reserve() int {
	if !o.last {
		return o.half
	}
	pieces := int(2 * max(0, o.left()) / int64(o.chunk)) // two in a row fill more than one
	return min(pieces, o.half)
}

// call calls the store. The first error is the last call: it ends the attempt,
// and all that talk for it get it too.
func (o *outbox) call(f func(context.Context) error) error {
	o.gate <- struct{}{}
	defer func() { <-o.gate }()
	if err := o.refused(); err != nil {
		return err
	}
	ctx, cancel := o.storing()
	defer cancel()
	err := f(ctx)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		o.stop(err)
	}
	return err
}

// refused returns the error that the store has had.
func (o *outbox) refused() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// storing returns the context of one call of the store: an attempt that is ended
// still stores what it said, but does not wait for the store for ever.
func (o *outbox) storing() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(o.ctx))
	stop := context.AfterFunc(o.ctx, func() {
		timer := time.NewTimer(storeTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errStoreSilent)
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel(nil) }
}

// stop is what becomes of the attempt when the store has refused.
func (o *outbox) stop(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.moved.Broadcast()
	o.mu.Unlock()
	o.nudge()
	o.fail(err)
}

package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

const (
	// maxPending is how much may wait for the store before whoever talks is held
	// up: a few batches, so that the store never waits.
	maxPending = 1 << 20

	// maxBatch is how much is taken for one message, and maxMessage what that may
	// grow to when it is encoded: half of what a NATS server accepts by default.
	maxBatch   = 256 << 10
	maxMessage = 512 << 10

	// maxText is the largest piece of output or log in one event: what one read of
	// a full pipe brings.
	maxText = 64 << 10

	// beyond is how much of the limit of bytes has to be left for each event behind the
	// limit of their number, if another is to follow: more than one costs the store,
	// which holds its envelope and keeps account of its message.
	beyond = 1 << 10

	// maxDistinct is how many events that cannot be joined may wait under pressure.
	maxDistinct = 16
)

var (
	// errOver is the error of work that talks after its Func has returned.
	errOver = errors.New("the attempt is over")

	// errBudget is the error of an event that is more than the job may say.
	errBudget = fmt.Errorf("the job's events have used up their limit: %w", job.ErrTooLarge)
)

// outbox holds what an attempt has said and the store does not have yet. One
// goroutine, the pacer, takes all there is and stores it with one call; what comes
// meanwhile is joined. So there is no timer as long as the store keeps up, and the
// slower it is the more goes into one message.
type outbox struct {
	sink   Sink
	lim    Limits
	chunk  int                     // bytes of output or log in one event
	ctx    context.Context         // of the attempt
	fail   context.CancelCauseFunc // ends it
	detach func() bool             // forgets ctx
	until  time.Time               // when the last word of the attempt will have been said
	last   bool                    // no attempt follows this one
	own    time.Duration           // the longest that an event that cannot be joined has to last
	half   int                     // of the events that there were to pace when it began
	gate   chan struct{}           // holds a token while sink is called: it sees one call at a time
	wake   chan struct{}           // tells the pacer to look again
	done   chan struct{}           // closed when the pacer is gone
	index  int                     // of the next job.output; the pacer's own

	mu      sync.Mutex // protects the fields below
	moved   *sync.Cond // events were taken, or there will be no more
	queue   []*item    // in the order they were said
	away    int        // items that were taken and are not stored yet
	haste   bool       // somebody has waited for long enough: no pace for what is there
	size    int        // bytes in queue and partial
	partial []byte     // output behind the last newline
	due     time.Time  // when partial goes without one
	meter   meter
	out     tally     // of the output that was kept
	dropped int64     // bytes of output that were not
	cut     bool      // the job was told that they are not
	many    bool      // the job was told that it has too many events
	events  int       // of the job, those on their way included
	bytes   int64     // of these events
	next    time.Time // not before then the next batch
	nextOwn time.Time // the same, if there is something in it that cannot be joined
	closed  bool
	err     error // of the store: it stays
}

// item is an event that waits; text makes output and log, data all others.
type item struct {
	typ    job.Type
	data   json.RawMessage
	text   []byte
	stream string // of a log
	full   bool   // there was more text than fits: no reason to wait for more
	taken  bool
}

func (it *item) len() int { return len(it.data) + len(it.text) }

// textual reports whether items of the type can be joined.
func textual(t job.Type) bool { return t == job.Output || t == job.Log }

func newOutbox(ctx context.Context, fail context.CancelCauseFunc, a Attempt, lim Limits) *outbox {
	deadline, _ := ctx.Deadline()
	o := &outbox{
		sink: a.Sink, lim: lim, ctx: ctx, fail: fail,
		chunk: max(16, min(maxText, lim.Event/4)), // encoded it is never larger than an event may be
		until: deadline.Add(lastWords),
		last:  a.Job.Attempt >= a.Job.MaxAttempts,
		gate:  make(chan struct{}, 1),
		wake:  make(chan struct{}, 1),
		done:  make(chan struct{}),
		meter: newMeter(lim.ProgressRate),
		out:   newTally(),
	}
	o.moved = sync.NewCond(&o.mu)
	o.events, o.bytes = o.sink.Used()
	o.own = min(ownTime, time.Until(deadline)/2/time.Duration(1+int64(lim.Events/2)+lim.Bytes/beyond))
	o.half = (lim.Events - max(o.events, lim.Events/2)) / 2
	o.detach = context.AfterFunc(ctx, o.release)
	go o.pace()
	return o
}

// release lets go whoever waits for an event's turn.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.moved.Broadcast()
}

// nudge makes the pacer look again.
func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// close stores all that is left and ends the pacer.
func (o *outbox) close() error {
	o.mu.Lock()
	o.flushPartial(0)
	o.flushProgress()
	o.closed = true
	o.moved.Broadcast()
	o.mu.Unlock()
	o.nudge()
	<-o.done
	o.detach()
	return o.refused()
}

// seal ends the calls of the store, also for a writer of a result that the Func has
// left behind: the store hears the attempt's end next, and from one goroutine.
func (o *outbox) seal() {
	o.gate <- struct{}{}
	defer func() { <-o.gate }()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = errOver
	}
}

// room waits until more may be said, for as long as more than enough is pending.
func (o *outbox) room() error {
	for o.err == nil && !o.closed && o.size >= maxPending {
		if o.ctx.Err() != nil && time.Now().Before(o.turn()) {
			return context.Cause(o.ctx) // nobody waits for the pace of an attempt that has ended
		}
		o.moved.Wait()
	}
	if o.err == nil && o.closed {
		return errOver
	}
	return o.err
}

// settle waits under pressure until it has been taken, if it is of those that
// cannot be joined: they would only pile up.
func (o *outbox) settle(it *item) error {
	for o.pressed() && !it.taken && o.err == nil && o.ctx.Err() == nil {
		if textual(it.typ) && len(o.queue) <= maxDistinct {
			break
		}
		o.moved.Wait()
	}
	return o.err
}

// flush returns when all that was said until now is stored. What waits for its turn
// waits for no longer than patience.
func (o *outbox) flush(patience time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushPartial(0)
	o.nudge()
	hurry := time.AfterFunc(patience, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.haste = true
		o.nudge()
	})
	defer hurry.Stop()
	for o.err == nil && !o.closed && len(o.queue)+o.away+len(o.meter.held) > 0 {
		o.moved.Wait()
	}
	o.haste = false
	if o.err == nil && o.closed {
		return errOver
	}
	return o.err
}

func (o *outbox) push(it *item) *item {
	o.queue = append(o.queue, it)
	o.size += it.len()
	o.nudge()
	return it
}

// emit adds an event of the worker's own, behind all output.
func (o *outbox) emit(typ job.Type, data json.RawMessage) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.room(); err != nil {
		return err
	}
	if o.refuses(len(data)) {
		return errBudget
	}
	o.flushPartial(incomplete(o.partial))
	return o.settle(o.push(&item{typ: typ, data: data}))
}

// logLine adds a line of a log. It does not end a line of output that is being
// written: the two come from two pipes, and lines are worth more than an order
// that was never sure.
func (o *outbox) logLine(stream string, line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room() != nil || o.refuses(len(line)) {
		return
	}
	_ = o.settle(o.addLine(stream, line))
}

func (o *outbox) addLine(stream string, line []byte) *item {
	it := o.joinable(job.Log, stream)
	if it == nil || !o.pressed() {
		return o.push(&item{typ: job.Log, stream: stream, text: slices.Clone(line)})
	}
	if len(it.text)+1+len(line) > o.chunk {
		it.full = true
		return o.push(&item{typ: job.Log, stream: stream, text: slices.Clone(line)})
	}
	it.text = append(append(it.text, '\n'), line...)
	o.size += 1 + len(line)
	return it
}

// addText adds output, cut into pieces at ends of lines where there are any.
func (o *outbox) addText(text []byte) {
	for len(text) > 0 {
		it := o.joinable(job.Output, "")
		if it == nil {
			it = o.push(&item{typ: job.Output})
		}
		n := fit(text, o.chunk-len(it.text))
		it.full = n < len(text)
		if it.full && len(it.text) > 0 && (n == 0 || text[n-1] != '\n') {
			continue // the line is better off in a piece of its own
		}
		it.text = append(it.text, text[:n]...)
		o.size += n
		text = text[n:]
	}
}

// joinable returns the pending event that more text of its sort goes into: the
// last one, and under pressure any behind the last that cannot be joined.
func (o *outbox) joinable(typ job.Type, stream string) *item {
	for _, it := range slices.Backward(o.queue) {
		if it.typ == typ && it.stream == stream {
			if it.full {
				return nil
			}
			return it
		}
		if !o.pressed() || !textual(it.typ) && it.typ != job.Progress {
			return nil
		}
	}
	return nil
}

// pressed reports whether half of the job's budget of events is used up.
func (o *outbox) pressed() bool { return o.events+len(o.queue) >= o.lim.Events/2 }

// take removes the first items from the queue, about a batch of them.
func (o *outbox) take() []*item {
	n, size := 0, 0
	for n < len(o.queue) && (n == 0 || size+o.queue[n].len() <= maxBatch) {
		size += o.queue[n].len()
		n++
	}
	batch := slices.Clone(o.queue[:n])
	o.queue = slices.Delete(o.queue, 0, n)
	return o.sent(batch)
}

// takeFull removes the pieces of text that nothing more fits into. They need not
// wait for the events' pace: it is the limit of bytes that bounds their number.
func (o *outbox) takeFull() []*item {
	type sort struct {
		typ    job.Type
		stream string
	}
	var batch []*item
	held := map[sort]bool{} // an earlier piece of it stays: none may overtake that
	o.queue = slices.DeleteFunc(o.queue, func(it *item) bool {
		s := sort{it.typ, it.stream}
		if !it.full || held[s] {
			held[s] = true
			return false
		}
		batch = append(batch, it)
		return true
	})
	return o.sent(batch)
}

func (o *outbox) sent(batch []*item) []*item {
	for _, it := range batch {
		it.taken = true
		o.size -= it.len()
		o.bytes += int64(it.len())
	}
	o.events += len(batch)
	o.away += len(batch)
	if len(batch) > 0 {
		o.moved.Broadcast()
	}
	return batch
}

package broker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Tail follows the whole log: it is told of each message with events in the order of their
// positions, behind the folds. It must not call the Broker.
type Tail interface {
	// Follow takes the events of the next message.
	Follow(c *job.Commit)
	// Jump says that nothing comes of what is there up to the cursor: it is in the log.
	Jump(to job.Cursor)
}

// tail puts messages in the order of their positions. They come in this order but where the
// answer to a publish was lost: its message is found later than those behind it. Until then
// the tail stands still, and keeps nothing: when the hole is filled it jumps, and who wants
// those messages reads them from the log. b.mu protects it.
type tail struct {
	to    Tail
	head  uint64     // all up to this position has been told
	last  job.Cursor // of the last event up to there
	ahead []run      // what has come behind a hole, in order
}

// run is a run of positions without a hole.
type run struct {
	from, to uint64
	last     job.Cursor // of its last event; the zero cursor: it has none
}

// begin says where the tail begins: at the end of the log.
func (t *tail) begin(head uint64, epoch uint64) {
	t.head = head
	if t.last == (job.Cursor{}) {
		t.last.Place = job.Place{Position: head, Epoch: epoch}
	}
	if t.to != nil {
		t.to.Jump(t.last)
	}
}

// loaded notes an event that was there at start.
func (t *tail) loaded(at job.Cursor) {
	if at.Position > t.last.Position {
		t.last = at
	}
}

// put takes the message at a position; without events c is nil. It reports whether a hole
// has opened before it.
func (t *tail) put(position uint64, c *job.Commit) (opened bool) {
	switch {
	case position <= t.head:
		return false
	case position == t.head+1 && len(t.ahead) == 0:
		t.head = position
		if c != nil {
			t.last = c.Job.Cursor
			t.to.Follow(c)
		}
		return false
	}
	opened = len(t.ahead) == 0
	t.insert(position, c)
	if t.ahead[0].from == t.head+1 {
		t.jump()
	}
	return opened && len(t.ahead) > 0
}

// insert notes that a position behind a hole has come.
func (t *tail) insert(position uint64, c *job.Commit) {
	r := run{from: position, to: position}
	if c != nil {
		r.last = c.Job.Cursor
	}
	i := len(t.ahead)
	for i > 0 && t.ahead[i-1].from > position {
		i--
	}
	if i > 0 && t.ahead[i-1].to >= position {
		return
	}
	t.ahead = append(t.ahead, run{})
	copy(t.ahead[i+1:], t.ahead[i:])
	t.ahead[i] = r
	t.merge(i)
	if i > 0 {
		t.merge(i - 1)
	}
}

// merge makes one of a run and the next, if they meet.
func (t *tail) merge(i int) {
	if i+1 == len(t.ahead) || t.ahead[i].to+1 != t.ahead[i+1].from {
		return
	}
	next := t.ahead[i+1]
	t.ahead[i].to = next.to
	if next.last != (job.Cursor{}) {
		t.ahead[i].last = next.last
	}
	t.ahead = append(t.ahead[:i+1], t.ahead[i+2:]...)
}

// jump goes to the end of the run that begins where the tail is.
func (t *tail) jump() {
	r := t.ahead[0]
	t.ahead = t.ahead[1:]
	t.head = r.to
	if r.last != (job.Cursor{}) {
		t.last = r.last
		t.to.Jump(t.last)
	}
}

// follow tells the tail of the message at a position. b.mu is held.
func (b *Broker) follow(position uint64, c *job.Commit) {
	if b.tail.to != nil && b.tail.put(position, c) && !b.closing {
		b.done.Go(b.mendTail)
	}
}

// mendTail looks after a hole until it is filled: a message that nobody here waits for
// leaves it open.
func (b *Broker) mendTail() {
	look := time.NewTicker(answerTime)
	defer look.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-look.C:
		}
		b.mu.Lock()
		hole, open := b.tail.head+1, len(b.tail.ahead) > 0
		b.mu.Unlock()
		if !open {
			return
		}
		b.lookInto(hole)
	}
}

// lookInto passes a hole if nobody is going to fill it.
func (b *Broker) lookInto(hole uint64) {
	ctx, cancel := context.WithTimeout(b.ctx, answerTime)
	defer cancel()
	s, err := b.store.get(ctx, hole)
	if err != nil && !errors.Is(err, errNone) {
		return
	}
	_, id, _ := parseSubject(s.subject)
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; err == nil && e != nil && e.inFlight && e.damaged == nil {
		return // it may be what is in flight
	}
	b.log.Warn("a message of the log that is nobody's", zap.Uint64("position", hole), zap.String("subject", s.subject))
	b.tail.put(hole, nil)
}

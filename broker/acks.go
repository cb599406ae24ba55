package broker

import (
	"bytes"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acks publishes messages and waits for the verdict on each, on one inbox. It
// repeats a publish that got no answer, the same bytes with the same fence, for as
// long as it takes: the store then has it at most once, whatever was lost on the
// way. Giving up would not do, the message may still be on its way.
type acks struct {
	nc    *nats.Conn
	inbox string
	sub   *nats.Subscription
	quit  chan struct{}
	swept chan struct{}

	mu      sync.Mutex
	waiting map[string]*publication // by reply subject
	last    uint64                  // number of the last reply subject
	closed  bool
}

type publication struct {
	msg  *nats.Msg
	done func(uint64, error)
	due  time.Time // when it is published again
}

const (
	// answerTime is how long an answer may take before the publish is repeated: far
	// more than the slowest sync, less than a caller's patience.
	answerTime = 2 * time.Second
	// spurious is how long a clustered server may take to forget a fence it had
	// refused by mistake (its error 10164).
	spurious = 20 * time.Millisecond
	// spuriousWrongSequence is that error; only 10071 is a verdict.
	spuriousWrongSequence = 10164
)

func newAcks(nc *nats.Conn) (*acks, error) {
	a := &acks{
		nc: nc, inbox: nats.NewInbox() + ".", waiting: map[string]*publication{},
		quit: make(chan struct{}), swept: make(chan struct{}),
	}
	var err error
	if a.sub, err = nc.Subscribe(a.inbox+"*", a.answer); err != nil {
		return nil, err
	}
	// As many answers can wait as there are publishes in flight, and those are
	// bounded by the jobs.
	if err := a.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	go a.sweep()
	return a, nil
}

// publish sends m and calls done with the verdict.
func (a *acks) publish(m *nats.Msg, done func(uint64, error)) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		go done(0, errClosed)
		return
	}
	a.last++
	m.Reply = a.inbox + strconv.FormatUint(a.last, 36)
	a.waiting[m.Reply] = &publication{m, done, time.Now().Add(answerTime)}
	a.mu.Unlock()
	if err := a.nc.PublishMsg(m); errors.Is(err, nats.ErrMaxPayload) {
		if p := a.take(m.Reply); p != nil {
			go p.done(0, verdict(err))
		}
	} // any other error passes, and the sweep tries again
}

// answer takes one acknowledgement.
func (a *acks) answer(m *nats.Msg) {
	position, ok := positionOf(m.Data)
	if !ok {
		err := errorOf(m.Data)
		if retry, wait := noVerdict(err); retry {
			a.postpone(m.Subject, wait)
			return
		}
		if p := a.take(m.Subject); p != nil {
			p.done(0, verdict(err))
		}
		return
	}
	if p := a.take(m.Subject); p != nil {
		p.done(position, nil)
	}
}

// noVerdict reports whether err leaves open what became of the message, or says
// that nothing did and that it is worth another try.
func noVerdict(err error) (retry bool, wait time.Duration) {
	var api *jetstream.APIError
	switch {
	case !errors.As(err, &api): // no responders, or not an answer at all
		return true, answerTime / 4
	case api.ErrorCode == spuriousWrongSequence:
		return true, spurious
	}
	return api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && !full[api.ErrorCode] && api.Code >= 500, answerTime / 4
}

func (a *acks) take(reply string) *publication {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.waiting[reply]
	delete(a.waiting, reply)
	return p
}

func (a *acks) postpone(reply string, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.waiting[reply]; p != nil {
		p.due = time.Now().Add(wait)
	}
}

// sweep publishes again what is due.
func (a *acks) sweep() {
	defer close(a.swept)
	t := time.NewTicker(spurious)
	defer t.Stop()
	for {
		select {
		case <-a.quit:
			return
		case now := <-t.C:
			for _, m := range a.due(now) {
				_ = a.nc.PublishMsg(m) // not sent is not answered: the next sweep
			}
		}
	}
}

func (a *acks) due(now time.Time) (due []*nats.Msg) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.waiting {
		if now.After(p.due) {
			p.due = now.Add(answerTime)
			due = append(due, p.msg)
		}
	}
	return due
}

// close ends the wait of all: whether their messages were stored is not known.
func (a *acks) close() {
	a.mu.Lock()
	left := a.waiting
	a.waiting, a.closed = nil, true
	a.mu.Unlock()
	close(a.quit)
	<-a.swept
	_ = a.sub.Unsubscribe()
	for _, p := range left {
		p.done(0, errClosed)
	}
}

// positionOf reads the position out of a positive acknowledgement,
// {"stream":"JOBS","seq":7}; decoding it as JSON would cost as much as storing it.
func positionOf(ack []byte) (uint64, bool) {
	if bytes.Contains(ack, []byte(`"error"`)) {
		return 0, false
	}
	_, rest, ok := bytes.Cut(ack, []byte(`"seq":`))
	rest = bytes.TrimLeft(rest, " ")
	end := bytes.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if !ok || end <= 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(rest[:end]), 10, 64)
	return n, err == nil && n > 0
}

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
	ended chan struct{} // closed when send has ended
	wake  chan struct{} // says that there is something to send; one slot

	mu      sync.Mutex
	waiting map[string]*publication // by reply subject
	unsent  []*publication          // of those: not yet on the connection
	last    uint64                  // number of the last reply subject
	stored  uint64                  // highest position that was acknowledged
	paused  bool                    // nothing is sent until repeat
	closed  bool
}

type publication struct {
	subject, reply string
	fence          uint64
	data           []byte
	done           func(uint64, error)
	at             time.Time // when it was published first
	due            time.Time // when it is published again
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
		quit: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1),
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
	go a.send()
	return a, nil
}

// publish sends data behind the fence and calls done with the verdict. It does not wait for the
// connection: its caller holds the lock of the log, and one that stalls must not
// stall those who only read.
func (a *acks) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		go done(0, errClosed)
		return
	}
	a.last++
	now := time.Now()
	p := &publication{subject, a.inbox + strconv.FormatUint(a.last, 36), fence, data, done, now, now.Add(answerTime)}
	a.waiting[p.reply] = p
	a.unsent = append(a.unsent, p)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
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
		a.mu.Lock()
		a.stored = max(a.stored, position)
		a.mu.Unlock()
		p.done(position, nil)
	}
}

// highest returns the highest position that was acknowledged.
func (a *acks) highest() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stored
}

// oldest returns how long the publish has waited that waits longest.
func (a *acks) oldest() (age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.waiting {
		age = max(age, time.Since(p.at))
	}
	return age
}

// pause sends nothing more until repeat: who would answer is about to go.
func (a *acks) pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = true
}

// repeat makes all that wait come due: who should have answered is gone.
func (a *acks) repeat() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused, a.unsent = false, nil // all that waits is in waiting
	for _, p := range a.waiting {
		p.at, p.due = time.Now(), time.Now()
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

// send sends what is new, and again what got no answer.
func (a *acks) send() {
	defer close(a.ended)
	t := time.NewTicker(spurious)
	defer t.Stop()
	m := newFenced()
	for {
		var list []*publication
		select {
		case <-a.quit:
			return
		case <-a.wake:
			list = a.fresh()
		case now := <-t.C:
			list = a.due(now)
		}
		for _, p := range list {
			err := a.nc.PublishMsg(m.of(p))
			if !errors.Is(err, nats.ErrMaxPayload) {
				continue // not sent is not answered, and comes due
			}
			if p := a.take(p.reply); p != nil {
				p.done(0, verdict(err))
			}
		}
	}
}

// fenced is a message that is sent again and again: it is written to the connection's
// buffer before the next one, and making one costs as much as sending it.
type fenced struct {
	msg   nats.Msg
	fence []string // its header's value
}

func newFenced() *fenced {
	fence := []string{""}
	if !guarded {
		return &fenced{fence: fence}
	}
	return &fenced{nats.Msg{Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: fence}}, fence}
}

// of returns the message of p. It holds until the next one is asked for.
func (f *fenced) of(p *publication) *nats.Msg {
	f.fence[0] = strconv.FormatUint(p.fence, 10)
	f.msg.Subject, f.msg.Reply, f.msg.Data = p.subject, p.reply, p.data
	return &f.msg
}

func (a *acks) fresh() []*publication {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused {
		return nil // they come due
	}
	list := a.unsent
	a.unsent = nil
	return list
}

func (a *acks) due(now time.Time) (due []*publication) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.paused {
		return nil
	}
	for _, p := range a.waiting {
		if now.After(p.due) {
			p.due = now.Add(answerTime)
			due = append(due, p)
		}
	}
	return due
}

// close ends the wait of all: whether their messages were stored is not known.
func (a *acks) close() {
	a.mu.Lock()
	left := a.waiting
	a.waiting, a.unsent, a.closed = nil, nil, true
	a.mu.Unlock()
	close(a.quit)
	<-a.ended
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

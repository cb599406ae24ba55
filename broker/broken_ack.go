//go:build broken_ack

package broker

import (
	"context"
	"time"
)

// lateBy is how long after it was told a message is stored: not long, by the measure of
// those who do so on purpose.
const lateBy = 100 * time.Millisecond

// earlyStore tells that a message is stored before it is.
type earlyStore struct {
	store
	last   uint64
	tells  chan func()
	stores chan promise
}

// promise is a message that was told of.
type promise struct {
	at      time.Time
	publish func()
}

func early(s store) store {
	e := &earlyStore{store: s, tells: make(chan func(), 1<<16), stores: make(chan promise, 1<<16)}
	go func() {
		for tell := range e.tells {
			tell()
		}
	}()
	go func() {
		for m := range e.stores {
			time.Sleep(time.Until(m.at))
			m.publish()
		}
	}()
	return e
}

func (e *earlyStore) scan(ctx context.Context, each func(stored)) (first, last uint64, err error) {
	first, last, err = e.store.scan(ctx, each)
	e.last = last
	return first, last, err
}

// publish is called by one at a time, under the lock of the log.
func (e *earlyStore) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	e.last++
	position := e.last
	e.tells <- func() { done(position, nil) }
	e.stores <- promise{time.Now().Add(lateBy), func() {
		e.store.publish(subject, fence, data, func(uint64, error) {}) // it was told already
	}}
}

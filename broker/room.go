package broker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// room says who may still write to the store. Every live job will be copied once,
// into the archive, before its messages can go; that copy is owed from the moment a
// message is stored. So a job that is over always finds room for its archive, and
// the store, however full, gets emptier by itself.
type room struct {
	used     atomic.Int64 // bytes the store keeps: as measured, and what was stored since
	limit    atomic.Int64 // bytes it may keep; 0: as many as it gets
	owed     atomic.Int64 // bytes of copies to come
	inFlight atomic.Int64 // bytes that the store has not answered for
}

const (
	// submitShare and workShare are how much of the limit submits and what workers say
	// may take. What ends jobs and makes room (claims, ends, cancels, the archive) is
	// never refused; that is what the rest is for.
	submitShare = 0.90
	workShare   = 0.95
	// lastRecords is what the records that end a job take, with some to spare.
	lastRecords = 4 << 10
	// maxInFlight bounds what waits for a store that does not answer: all of it is in
	// memory.
	maxInFlight = 256 << 20
	// roomTime is how long a worker that has something to say waits for room: a few
	// jobs of others end in that time, and are archived.
	roomTime = 30 * time.Second
	// measureTime is how often the store is asked: a disk that others fill as well
	// must not be full before it is noticed.
	measureTime = 250 * time.Millisecond
)

// has reports whether n more bytes fit into share of the limit.
func (r *room) has(n int64, share float64) bool {
	limit := r.limit.Load()
	taken := r.used.Load() + r.owed.Load() + 2*r.inFlight.Load() + n
	return limit == 0 || float64(taken) <= share*float64(limit)
}

// forSubmit returns the error of a submit of n bytes for which there is no room.
func (r *room) forSubmit(n int64) error {
	switch {
	case !r.has(2*n+lastRecords, submitShare): // it will be copied
		return errFull()
	case r.inFlight.Load()+n > maxInFlight:
		return unavailable(errors.New("too much waits for its answer"))
	}
	return nil
}

// forWork waits for room for n bytes, while ctx and the attempt that has them last.
func (r *room) forWork(ctx, attempt context.Context, n int64) error {
	if r.has(n, workShare) {
		return nil
	}
	late := time.NewTimer(roomTime)
	defer late.Stop()
	again := time.NewTicker(measureTime)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if r.has(n, workShare) {
				return nil
			}
		case <-late.C:
			return errFull()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-attempt.Done():
			return context.Cause(attempt)
		}
	}
}

// stored counts a message of n bytes that e now has. b.mu is held, or nobody else
// is there yet.
func (r *room) stored(e *entry, n int64) {
	if e.owed == 0 {
		r.owe(e, lastRecords)
	}
	r.owe(e, n)
}

func (r *room) owe(e *entry, n int64) {
	e.owed += n
	r.owed.Add(n)
}

// measure asks the store how full it is, and mends it if it can, until the broker
// ends.
func (b *Broker) measure() {
	t := time.NewTicker(measureTime)
	defer t.Stop()
	for was := false; ; {
		b.measureOnce()
		if err := b.store.heal(b.ctx); err != nil && b.sound.Err() == nil {
			b.log.Error("the store is sick", zap.Error(err))
			if errors.Is(err, errSpoiled) {
				b.spoil(err)
			}
		}
		if full := !b.room.has(0, submitShare); full != was {
			was = full
			b.log.Warn("room in the store", zap.Bool("full", full),
				zap.Int64("used", b.room.used.Load()), zap.Int64("owed", b.room.owed.Load()), zap.Int64("limit", b.room.limit.Load()))
		}
		select {
		case <-t.C:
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *Broker) measureOnce() {
	ctx, cancel := context.WithTimeout(b.ctx, time.Second)
	defer cancel()
	if used, limit, err := b.store.usage(ctx); err == nil {
		b.room.used.Store(used)
		b.room.limit.Store(limit)
	}
}

package broker

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// readOn finds out why bt was refused: it reads what the job has behind the fence.
// Our own message there means that an earlier try of the same publish was stored.
// All else is folded, and the proposals are asked again; but not of a job that is over and
// has left for the archive, which was told once. Nothing there means that the job was erased.
func (b *Broker) readOn(e *entry, bt *batch) {
	if err := b.store.sync(b.ctx); err != nil { // it is told as stored, or shown, below
		b.mu.Lock()
		defer b.mu.Unlock()
		b.settle(e, bt, 0, err)
		return
	}
	found := false
	for position := e.tail + 1; ; position++ { // nobody else moves the tail while bt is in flight
		s, err := b.nextRetrying(e.subject, position)
		if errors.Is(err, errNone) && !found {
			err = b.erased(e.subject)
		}
		switch {
		case errors.Is(err, errNone): // no more, or none that could be read
			b.again(e, bt)
			return
		case err != nil:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.settle(e, bt, 0, err)
			return
		}
		found, position = true, s.position
		if b.overtaken(e, bt, s) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.settle(e, bt, 0, job.ErrLeaseLost)
			return
		}
		if own, err := b.adopt(e, bt, s); own || err != nil {
			return
		}
	}
}

// erased returns job.ErrLeaseLost if the log has nothing of the subject, else, after
// a pause, errNone: there is something, but it could not be read.
func (b *Broker) erased(subject string) error {
	for {
		has, err := b.store.has(b.ctx, subject)
		if err == nil && !has {
			return job.ErrLeaseLost
		}
		select {
		case <-b.ctx.Done():
			return errClosed
		case <-time.After(answerTime / 4):
		}
		if err == nil {
			return errNone
		}
	}
}

// overtaken reports whether the job has gone on without e: that it is over, and has left for
// the archive, or what was between the job's tail and s has been archived, or moved, and
// purged by another process, which has the job now. The message at the tail went with it; as
// long as that is there, a hole behind it is damage.
func (b *Broker) overtaken(e *entry, bt *batch, s stored) bool {
	m, err := decode(s.subject, s.data)
	b.mu.Lock()
	next, tail := e.job.Cursor.Seq+1, e.tail
	b.mu.Unlock()
	switch {
	case err != nil, m.Writer == bt.frame.Writer:
		return false
	case m.First > next:
		_, err = b.store.get(b.ctx, tail)
		return errors.Is(err, errNone)
	case tail == 0: // it is new here
		_, err = b.store.archived(b.ctx, string(e.job.ID))
		return err == nil
	}
	return false
}

// adopt folds a message that somebody else stored, or settles bt if it is bt's own.
func (b *Broker) adopt(e *entry, bt *batch, s stored) (own bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := decode(s.subject, s.data)
	if err == nil && m.Writer == bt.frame.Writer {
		b.settle(e, bt, s.position, nil)
		return true, nil
	}
	after := e.job
	if err == nil {
		err = m.fold(&after, s.position)
	}
	if err != nil {
		b.log.Error("damaged job", zap.String("job", string(e.job.ID)), zap.Uint64("position", s.position), zap.Error(err))
		b.settle(e, bt, 0, unavailable(damagedBy(err)))
		return false, err
	}
	b.commit(e, m, s.data, s.position, after)
	return false, nil
}

// again puts the refused writes in front and asks them once more.
func (b *Broker) again(e *entry, bt *batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if bt.frame.moved() { // it is of the state that was
		bt.tell(job.ErrLeaseLost)
	} else {
		e.pending = append(bt.writes, e.pending...)
	}
	b.landed(e, bt)
	b.flush(e)
}

// nextRetrying is store.next, repeated until the store answers or the broker ends.
func (b *Broker) nextRetrying(subject string, position uint64) (stored, error) {
	for {
		s, err := b.store.next(b.ctx, subject, position)
		if err == nil || errors.Is(err, errNone) {
			return s, err
		}
		select {
		case <-b.ctx.Done():
			return stored{}, errClosed
		case <-time.After(answerTime / 4):
		}
	}
}

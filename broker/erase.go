package broker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// A job is erased in one of two ways. One that lives is told to end, by a record that also
// says that nobody shall see it any more; when it is over it is not archived, and what is
// in the log goes with the next purge. One that is over is taken out of the archive:
//
//	its head replaced by one that says so ──▶ its parts and pieces removed ──▶ answer
//
// The head stays until the job would have expired: the log may still have the messages of
// the job, which the next start must not take for one that was not archived yet. Killed
// between the two, the next start removes the parts, and the pieces expire.

// Erase removes a job, live or over, and all that is stored of it, but not its idempotency
// key: who repeats that submit learns that the job is gone. From then on the job is
// job.ErrNotFound; the work of one that runs is told to stop, and may take its grace.
func (b *Broker) Erase(ctx context.Context, id job.ID, by string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	for e := b.live(id); e != nil; e = b.live(id) {
		err := b.eraseLive(ctx, e, by)
		if !errors.Is(err, errOver) {
			return err
		}
		if err := b.awaitArchive(ctx, e); err != nil {
			return err
		}
	}
	return b.eraseOver(ctx, id)
}

// errOver says that a job is over, and has to be looked for in the archive.
var errOver = errors.New("the job is over")

// eraseLive tells a live job to end, and to be seen no more.
func (b *Broker) eraseLive(ctx context.Context, e *entry, by string) error {
	data := job.MustData(map[string]string{"reason": "erased", "by": by})
	erased := false // already
	err := b.append(ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		erased = j.Erased
		switch {
		case erased || j.Status.Over():
			return nil, false
		case j.Status == job.StatusQueued:
			return []job.Record{{Type: job.Canceled, Data: data, Private: &job.Private{Erase: true}}}, true
		}
		return []job.Record{{Type: job.CancelRequested, Data: data, Private: &job.Private{Erase: true}}}, true
	}})
	switch {
	case errors.Is(err, job.ErrLeaseLost) && erased:
		return job.ErrNotFound
	case errors.Is(err, job.ErrLeaseLost):
		return errOver
	}
	return err
}

// awaitArchive waits until a job that is over has left the log.
func (b *Broker) awaitArchive(ctx context.Context, e *entry) error {
	const look = 5 * time.Millisecond
	for t := time.NewTicker(look); ; {
		b.mu.Lock()
		there := b.jobs[e.job.ID] == e
		b.mu.Unlock()
		if !there {
			t.Stop()
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

// eraseOver takes a job out of the archive.
func (b *Broker) eraseOver(ctx context.Context, id job.ID) error {
	a, err := b.fetch(ctx, id)
	if err != nil {
		return err
	}
	j := nothingOf(&a.Job)
	left := time.Until(j.ExpiresAt)
	if left <= 0 { // which would be for ever
		return job.ErrNotFound
	}
	if a.Job.Webhook != nil { // before the job, as what is pending does not expire
		if err := b.removeDeliveries(ctx, id); err != nil {
			return err
		}
	}
	place, err := b.store.place(ctx, string(id), (&archive{Job: j}).encode(), left)
	if err == nil {
		err = b.store.sync(ctx) // else a loss of power might bring it back
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ended = max(b.ended, place)
	gone := a.Job // with its labels: who follows it by one of them is told
	gone.Erased = true
	b.loaded(&gone) // from here on it is gone, whatever becomes of the rest
	b.mu.Unlock()
	if err := b.removeBeside(ctx, &a.Job); err != nil {
		b.log.Warn("parts of an erased job left to expire", zap.String("job", string(id)), zap.Error(err))
	}
	return nil
}

// removeBeside removes what of a job lies beside the log, and is not its head.
func (b *Broker) removeBeside(ctx context.Context, j *job.Job) error {
	err := b.store.remove(ctx, string(j.ID))
	if j.Upload != nil && err == nil {
		err = b.removeUpload(ctx, j.Upload.ID)
	}
	return err
}

// nothingOf is all that is kept of an erased job: nothing that anybody had asked for, or
// was told.
func nothingOf(j *job.Job) job.Job {
	return job.Job{ID: j.ID, Kind: j.Kind, Owner: j.Owner, Status: j.Status, Batch: j.Batch, Once: j.Once, ExpiresAt: j.ExpiresAt, Cursor: j.Cursor, Erased: true}
}

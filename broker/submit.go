package broker

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// storeTime is how long a caller waits for the store before it is told that there
// is none: longer than a hiccup, shorter than its own patience.
const storeTime = 10 * time.Second

// bounded returns ctx with an end after storeTime.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, storeTime, unavailable(context.DeadlineExceeded))
}

// Submit stores r as the job id and returns it as it was stored: queued, whatever
// has become of it since. A job that is in the log already is returned as it stands: the
// same id is never two jobs there. Of one that is in the archive the log knows nothing.
func (b *Broker) Submit(ctx context.Context, id job.ID, r *job.Request) (job.Job, error) {
	if err := b.admit(r, 0); err != nil {
		b.Discard(r.Upload)
		return job.Job{}, err
	}
	j, _, err := b.enter(ctx, id, r)
	return j, err
}

// admit finds out whether there is room for r, beside so many bytes that were promised
// to others, and makes it in the queue.
func (b *Broker) admit(r *job.Request, promised int64) error {
	if b.isClosing() {
		return job.ErrDraining
	}
	if err := r.Late(time.Now()); err != nil {
		return err
	}
	if b.store.full() {
		return errFull()
	}
	if err := b.room.forSubmit(promised + int64(len(r.Input))); err != nil {
		return err
	}
	if b.behind() {
		return unavailable(errors.New("too many jobs that are over wait for the archive"))
	}
	if err := b.fits(r); err != nil {
		return err
	}
	return b.queue.Admit(r.Kind)
}

// fits fails on an input that is larger than its kind takes, or than a message may be.
func (b *Broker) fits(r *job.Request) error {
	most, size := b.kind(r.Kind).MaxInput, int64(len(r.Input))
	if r.Upload != nil {
		size = r.Upload.Size
	} else {
		most = min(most, int64(b.store.maxMessage()))
	}
	if size > most {
		return job.Problemf("too-large", "the input of kind %s is at most %d bytes", r.Kind, most)
	}
	return nil
}

// enter stores what was admitted; existed says that there was a job of this id.
func (b *Broker) enter(ctx context.Context, id job.ID, r *job.Request) (j job.Job, existed bool, err error) {
	late := time.NewTimer(storeTime) // a context of its own would be five allocations more
	defer late.Stop()
	return b.entered(ctx, b.begin(id, r), late.C)
}

// entering is a job on its way into the log.
type entering struct {
	id    job.ID
	entry *entry
	write *write
}

// begin puts on its way what was admitted.
func (b *Broker) begin(id job.ID, r *job.Request) *entering {
	q := complete(r, b.kind(r.Kind))
	w := &write{attachment: r.Input, dropped: func() { b.dropped(r) }, propose: func(j *job.Job) ([]job.Record, bool) {
		return []job.Record{submitted(q)}, !j.Exists()
	}}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(r.Kind, id, r.Owner)
	b.enqueue(e, w)
	return &entering{id, e, w}
}

// dropped gives back what was taken for a request that came not to be stored. b.mu is held.
func (b *Broker) dropped(r *job.Request) {
	b.queue.Dismiss(r.Kind)
	if r.Upload != nil {
		b.discard(uploadName(r.Upload.ID), time.Time{})
	}
}

// entered waits until it is stored, ctx ends, or late comes.
func (b *Broker) entered(ctx context.Context, n *entering, late <-chan time.Time) (j job.Job, existed bool, err error) {
	err = b.await(ctx, n.entry, n.write, late)
	switch {
	case err == nil:
		return *n.write.after, false, nil
	case errors.Is(err, job.ErrLeaseLost): // it exists
		ctx, cancel := bounded(ctx)
		defer cancel()
		j, err = b.Job(ctx, n.id)
		return j, true, err
	}
	return job.Job{}, false, err
}

// complete returns r with the kind's rules in place of what it leaves open.
func complete(r *job.Request, k job.Kind) *job.Request {
	q := *r
	if q.MaxAttempts == 0 {
		q.MaxAttempts = k.MaxAttempts
	}
	if q.Timeout == 0 {
		q.Timeout = k.Timeout
	}
	if q.Retention == 0 {
		q.Retention = k.Retention
	}
	if q.StartTimeout == 0 {
		q.StartTimeout = k.StartTimeout
	}
	if q.Deadline.IsZero() && k.Deadline > 0 {
		from := time.Now()
		if q.RunAt.After(from) {
			from = q.RunAt
		}
		q.Deadline = from.Add(k.Deadline).UTC().Truncate(time.Millisecond)
	}
	q.Input = nil // lies beside the record, and is not held in memory while the job waits
	return &q
}

// submitted is the first record of a job.
func submitted(q *job.Request) job.Record {
	d := job.QueuedData{Kind: q.Kind, Attempt: 1, Reason: job.ReasonSubmitted}
	if q.RunAt.After(time.Now()) {
		d.RunAt = (*job.Time)(&q.RunAt)
	}
	return job.Record{Type: job.Queued, Attempt: 1, Private: &job.Private{Request: q}, Data: job.MustData(d)}
}

// Request returns what a job was asked for, with its input, whether it lives or is over.
func (b *Broker) Request(ctx context.Context, id job.ID) (r *job.Request, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = b.each(ctx, id, 0, 1, func(_ uint64, m *frame) bool {
		if len(m.Records) == 0 || m.Records[0].Private == nil || m.Records[0].Private.Request == nil {
			return false
		}
		q := *m.Records[0].Private.Request
		q.Kind, q.Owner, q.Input = m.Kind, m.Owner, bytes.Clone(m.Attachment)
		r = &q
		return false
	})
	if err == nil && r == nil {
		err = unavailable(errMissing)
	}
	return r, err
}

// entry returns the job's entry, a fresh one if it has none. It is dropped again
// if nothing comes to be stored. b.mu is held.
func (b *Broker) entry(kind string, id job.ID, owner string) *entry {
	e := b.jobs[id]
	if e == nil {
		e = &entry{subject: subjectOf(kind, id), job: job.Job{ID: id, Kind: kind, Owner: owner}}
		b.put(e, b.head+1)
	}
	return e
}

// put takes e into the log, from position floor on. b.mu is held, or nobody else is there
// yet.
func (b *Broker) put(e *entry, floor uint64) {
	b.jobs[e.job.ID] = e
	b.floors.add(e, floor, b.written)
}

// remove is the end of put.
func (b *Broker) remove(e *entry) {
	delete(b.jobs, e.job.ID)
	b.floors.remove(e)
}

// Cancel asks a job to stop: a queued one is over at once, a running one is told.
// One that is over, or was asked already, is returned unchanged.
func (b *Broker) Cancel(ctx context.Context, id job.ID, by, reason string) (job.Job, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if e := b.live(id); e != nil {
		data := job.MustData(map[string]string{"reason": reason, "by": by})
		err := b.append(ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
			switch {
			case j.Status == job.StatusQueued:
				return []job.Record{{Type: job.Canceled, Data: data}}, true
			case j.Status == job.StatusRunning && j.CancelRequestedAt.IsZero():
				return []job.Record{{Type: job.CancelRequested, Data: data}}, true
			}
			return nil, false
		}})
		if err != nil && !errors.Is(err, job.ErrLeaseLost) {
			return job.Job{}, err
		}
	}
	return b.Job(ctx, id)
}

// Expire ends a job that waits and is overdue (job.Overdue). One that is neither is left
// as it is.
func (b *Broker) Expire(ctx context.Context, id job.ID) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	e := b.live(id)
	if e == nil {
		return nil
	}
	err := b.append(ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		p := j.Overdue(time.Now())
		if p == nil {
			return nil, false
		}
		return []job.Record{failed(j, p)}, true
	}})
	if errors.Is(err, job.ErrLeaseLost) {
		return nil
	}
	return err
}

// live returns the entry of a job that is in the log; nil if there is none.
func (b *Broker) live(id job.ID) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; e != nil && e.job.Exists() {
		return e
	}
	return nil
}

// standing returns a job that is in the log as it stands.
func (b *Broker) standing(id job.ID) (j job.Job, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.jobs[id]; e != nil {
		return e.job, e.job.Exists()
	}
	return j, false
}

// Job returns a job as it stands, or job.ErrNotFound.
func (b *Broker) Job(ctx context.Context, id job.ID) (job.Job, error) {
	b.mu.Lock()
	e := b.jobs[id]
	if e != nil && (e.job.Exists() || e.damaged != nil) {
		defer b.mu.Unlock()
		if e.job.Erased {
			return job.Job{}, job.ErrNotFound
		}
		return e.job, unavailable(e.damaged)
	}
	b.mu.Unlock()
	a, err := b.fetch(ctx, id)
	if err != nil {
		return job.Job{}, err
	}
	return a.Job, nil
}

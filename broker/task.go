package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Task is one attempt at a job, claimed by this process. It is where the attempt's
// records go; all of them are refused once the job belongs to another attempt.
type Task struct {
	b     *Broker
	e     *entry
	lease uint64 // seq of its job.running

	timeoutAt time.Time
	pieces    []uint64 // of the result, that are stored: their places

	ctx    context.Context // ends on cancel, timeout, lost lease
	cancel context.CancelCauseFunc

	Job       job.Job // as it stood at the claim
	Input     []byte
	Upload    *job.Upload // in place of Input; see OpenUpload
	InputType string
	Call      *job.Call // of a route; nil: of any other kind

	success *Success      // what the handler leaves for the terminal record
	err     error         // what it failed with
	resumed bool          // a process before this one began it
	finish  atomic.Uint64 // the lease, if the attempt ends as its pull worker says, who may be late
	ended   chan struct{} // closed when how it ends is stored, or cannot be
	once    sync.Once     // closes it
}

// Success is what a handler leaves for the job's terminal record.
type Success struct {
	Record job.Record
	Piece  []byte // last piece of the result, stored in the same message
}

// claim makes id a running job, if it still waits, for the named worker; "" is this
// process.
func (b *Broker) claim(ctx context.Context, id job.ID, worker string) (*Task, error) {
	e := b.live(id)
	if e == nil {
		return nil, job.ErrLeaseLost
	}
	input, call, err := b.input(ctx, id)
	if errors.Is(err, errDamaged) && b.hopeless(e, err) {
		b.setDamaged(e, err) // else it is claimed again and again
	}
	if err != nil {
		return nil, err
	}
	t := &Task{b: b, e: e, Input: input, Call: call, ended: make(chan struct{})}
	err = b.append(ctx, e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		if j.Status != job.StatusQueued || j.Request == nil {
			return nil, false
		}
		now := time.Now()
		if j.Overdue(now) != nil {
			return nil, false // the janitor's
		}
		t.lease = j.Cursor.Seq + 1
		t.timeoutAt = now.Add(j.Request.Timeout)
		if d := j.Request.Deadline; !d.IsZero() && d.Before(t.timeoutAt) {
			t.timeoutAt = d
		}
		t.timeoutAt = t.timeoutAt.UTC().Truncate(time.Millisecond)
		return []job.Record{t.running(j, worker)}, true
	}})
	if err != nil {
		return nil, err
	}
	t.begin()
	return t, nil
}

// maxMissed is how often a message that is not there is looked for: a store that can open
// no file says so as well, for a while.
const maxMissed = 10

// hopeless reports whether a job will not become readable.
func (b *Broker) hopeless(e *entry, err error) bool {
	if !errors.Is(err, errMissing) {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e.missed++
	return e.missed >= maxMissed
}

// running is the record that begins the attempt of a worker.
func (t *Task) running(j *job.Job, worker string) job.Record {
	k := t.b.kind(j.Kind)
	p := &job.Private{Node: t.b.node, AtMostOnce: k.AtMostOnce}
	if k.Lease > 0 {
		p.LeasedUntil = t.timeoutAt
	}
	return job.Record{
		Type: job.Running, Attempt: j.Attempt, Private: p,
		Data: job.MustData(job.RunningData{Attempt: j.Attempt, Worker: cmp.Or(worker, t.b.node), TimeoutAt: job.Time(t.timeoutAt)}),
	}
}

// input reads back the job's input, and the call it is of: while jobs wait, nobody holds
// them in memory.
func (b *Broker) input(ctx context.Context, id job.ID) (input []byte, call *job.Call, err error) {
	err = b.each(ctx, id, 0, 1, func(_ uint64, m *frame) bool {
		input = bytes.Clone(m.Attachment) // a handler may change its message
		if len(m.Records) > 0 && m.Records[0].Private != nil && m.Records[0].Private.Request != nil {
			call = m.Records[0].Private.Request.Call
		}
		return false
	})
	return input, call, err
}

// begin starts the life of a task that holds its lease.
func (t *Task) begin() {
	timeout := job.Problemf("attempt-timeout", "the attempt was not done by %s", job.Time(t.timeoutAt))
	timeout.Retryable = true // a deadline leaves no time for another
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if q := t.e.job.Request; q != nil && t.timeoutAt.Equal(q.Deadline) {
		timeout = job.DeadlineExceeded(t.timeoutAt)
	}
	ctx, cancel := context.WithCancelCause(t.b.ctx)
	timed, release := context.WithDeadlineCause(ctx, t.timeoutAt, timeout)
	t.ctx, t.cancel = timed, func(cause error) { cancel(cause); release() }
	t.Job = t.e.job
	t.Job.Lease = t.shown()
	if t.Job.Request != nil {
		t.InputType, t.Upload = t.Job.Request.InputType, t.Job.Request.Upload
	}
	t.e.task = t
	t.follow(&t.e.job) // somebody may have come between
}

// OpenUpload opens an input that is an Upload, to be read from its beginning.
func (t *Task) OpenUpload(ctx context.Context) (io.ReadCloser, error) {
	return t.b.OpenUpload(ctx, t.Upload), nil
}

// shown returns the lease as others see it, who ask for the attempt by it.
func (t *Task) shown() uint64 {
	if !guarded {
		return 1
	}
	return t.lease
}

// follow ends the task's context when the job no longer wants it. b.mu is held.
func (t *Task) follow(j *job.Job) {
	switch {
	case j.Lease != t.lease && guarded:
		t.cancel(job.ErrLeaseLost)
		t.e.task = nil
	case !j.CancelRequestedAt.IsZero():
		t.cancel(job.ErrCanceled)
	}
}

// Append stores records of the attempt; see worker.Sink.
func (t *Task) Append(ctx context.Context, records ...job.Record) error {
	n := 0
	for i := range records {
		n += len(records[i].Data)
	}
	if err := t.b.room.forWork(ctx, t.ctx, 2*int64(n)); err != nil { // they will be copied
		return err
	}
	return t.b.append(ctx, t.e, &write{propose: held(t.lease, records...)})
}

// Used returns how many events the job has and how many bytes their data takes.
func (t *Task) Used() (events int, bytes int64) {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	return int(t.e.job.Cursor.Seq), t.e.bytes
}

// Succeed leaves the terminal record of a task whose handler will return no error.
func (t *Task) Succeed(s Success) { t.success = &s }

// succeed ends the job with what the handler left.
func (t *Task) succeed(ctx context.Context) error {
	s := t.success
	if s == nil { // a Watermill handler that knows of no Task
		s = &Success{Record: job.Record{Type: job.Succeeded, Data: job.MustData(map[string]any{"result": nil}), Private: &job.Private{Result: emptyResult(t.lease)}}}
	}
	if p := s.Record.Private; p != nil && p.Result != nil {
		p.Result.Pieces = t.pieces
		p.Finish = t.finish.Load()
	}
	w := &write{propose: held(t.lease, s.Record)}
	if len(s.Piece) > 0 {
		if err := t.b.room.forWork(ctx, t.ctx, 2*int64(len(s.Piece))); errors.Is(err, errFull()) {
			return t.fail(ctx, err)
		}
		w.attachment, w.lease = s.Piece, t.lease
	}
	return t.b.append(ctx, t.e, w)
}

// fail ends the attempt with err: the job runs again after a backoff, if the error
// and its attempts allow it, else it failed.
func (t *Task) fail(ctx context.Context, err error) error {
	p := job.ProblemOf(err, t.Job.Attempt)
	k := t.b.kind(t.Job.Kind)
	wait := max(k.Backoff.After(t.Job.Attempt), p.RetryAfter)
	return t.b.append(ctx, t.e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		_, holds := held(t.lease)(j)
		switch {
		case !j.CancelRequestedAt.IsZero():
			return t.said(canceled(j)), holds
		case p.Retryable && j.Attempt < j.MaxAttempts && inTime(j, time.Now().Add(wait)):
			return t.said(retry(j, p, time.Now().Add(wait))...), holds
		}
		return t.said(failed(j, p)), holds
	}})
}

// back hands the job back unfinished: no attempt is used up.
func (t *Task) back(ctx context.Context) error {
	return t.b.append(ctx, t.e, &write{propose: func(j *job.Job) ([]job.Record, bool) {
		_, holds := held(t.lease)(j)
		if !j.CancelRequestedAt.IsZero() {
			return t.said(canceled(j)), holds
		}
		return t.said(queuedAgain(j, j.Attempt, job.ReasonDrain, time.Time{})), holds
	}})
}

// end releases what the task holds.
func (t *Task) end() {
	t.cancel(context.Canceled)
	t.b.mu.Lock()
	if t.e.task == t {
		t.e.task = nil
	}
	over := t.e.job.Lease != t.lease // else nobody knows how it ends
	stands := t.e.job.Result != nil && t.e.job.Result.Lease == t.lease
	t.b.mu.Unlock()
	if len(t.pieces) > 0 && over && !stands {
		t.removePieces()
	}
	t.once.Do(func() { close(t.ended) })
}

// canceled is the terminal record of a job that was asked to stop. It says who
// asked, and why, as that of a job that no worker had.
func canceled(j *job.Job) job.Record {
	return job.Record{Type: job.Canceled, Attempt: j.Attempt, Data: j.CancelRequest}
}

// inTime reports whether an attempt that begins at t may be done in time.
func inTime(j *job.Job, t time.Time) bool {
	return j.Request == nil || j.Request.Deadline.IsZero() || t.Before(j.Request.Deadline)
}

// failed is the terminal record of a job with the problem p, which tells of all attempts.
func failed(j *job.Job, p *job.Problem) job.Record {
	if len(j.Failures) > 0 {
		whole := *p
		whole.Attempts = j.Failures
		p = &whole
	}
	return job.Record{Type: job.Failed, Data: job.MustData(map[string]*job.Problem{"error": p})}
}

// retry is the end of an attempt that another will follow at the given time.
func retry(j *job.Job, p *job.Problem, at time.Time) []job.Record {
	at = at.Truncate(time.Millisecond)
	data := job.MustData(struct {
		Attempt int          `json:"attempt"`
		Error   *job.Problem `json:"error"`
		RetryAt job.Time     `json:"retry_at"`
	}{j.Attempt, p, job.Time(at)})
	return []job.Record{
		{Type: job.AttemptFailed, Attempt: j.Attempt, Data: data},
		queuedAgain(j, j.Attempt+1, job.ReasonRetry, at),
	}
}

func queuedAgain(j *job.Job, attempt int, why job.QueuedReason, at time.Time) job.Record {
	d := job.QueuedData{Kind: j.Kind, Attempt: attempt, Reason: why}
	if !at.IsZero() {
		d.RunAt = (*job.Time)(&at)
	}
	return job.Record{Type: job.Queued, Attempt: attempt, Data: job.MustData(d)}
}

func emptyResult(lease uint64) *job.Result {
	return &job.Result{Type: "application/octet-stream", SHA256: emptySHA256, Lease: lease}
}

// emptySHA256 is the checksum of no bytes.
const emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

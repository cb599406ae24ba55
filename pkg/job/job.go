// Package job holds the nouns of Millstream. A job is its records: a Job is what
// Fold makes of them, one at a time, and nothing else. Everything imports this
// package; it imports only the standard library and a source of ids.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Status is one of the five states of a job.
type Status string

// The states. The last three are final.
const (
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusSucceeded Status = "succeeded"
	StatusFailed    Status = "failed"
	StatusCanceled  Status = "canceled"
)

// Over reports whether a job in this state will never change again.
func (s Status) Over() bool {
	return s == StatusSucceeded || s == StatusFailed || s == StatusCanceled
}

// Job is a job as it stands: the fold of its records so far. The zero value is a
// job that does not exist yet. The JSON form is how it is archived; clients see
// the representation that package handlers makes. A copy is a snapshot: Fold
// replaces what the fields point to and never writes into it.
type Job struct {
	ID          ID       `json:"id"`
	Kind        string   `json:"kind"`
	Owner       string   `json:"owner,omitzero"`
	Status      Status   `json:"status"`
	Attempt     int      `json:"attempt"` // begun, or waited for while queued
	MaxAttempts int      `json:"max_attempts"`
	Priority    Priority `json:"priority,omitzero"`
	Key         string   `json:"key,omitzero"`
	Tags        []string `json:"tags,omitempty"`
	Batch       string   `json:"batch,omitempty"`
	Once        *Once    `json:"once,omitempty"`    // nil: it came without an idempotency key
	Upload      *Upload  `json:"upload,omitempty"`  // nil: its input lies with its first record
	Webhook     *Webhook `json:"webhook,omitempty"` // nil: nobody is told

	CreatedAt         time.Time `json:"created_at"`
	RunAt             time.Time `json:"run_at,omitzero"`     // while queued: not before; else zero
	StartedAt         time.Time `json:"started_at,omitzero"` // of the first attempt
	FinishedAt        time.Time `json:"finished_at,omitzero"`
	ExpiresAt         time.Time `json:"expires_at,omitzero"`
	CancelRequestedAt time.Time `json:"cancel_requested_at,omitzero"`

	Progress json.RawMessage `json:"progress,omitempty"` // data of the attempt's last job.progress
	Output   json.RawMessage `json:"output,omitempty"`   // data of the terminal event: {"result":…}, {"error":…} or {"reason":…}
	Result   *Result         `json:"result,omitempty"`   // of one that succeeded
	Erased   bool            `json:"erased,omitempty"`   // nobody sees it any more; once it is over, it is removed
	Finish   uint64          `json:"finish,omitempty"`   // lease of the last attempt that ended as its pull worker said

	Failures      []*Problem      `json:"-"`      // of earlier attempts, the last few; nil once it is over
	Request       *Request        `json:"-"`      // nil once it is over: nobody needs it then
	CancelRequest json.RawMessage `json:"-"`      // data of the first job.cancel_requested, which the end repeats; nil once it is over
	Lease         uint64          `json:"-"`      // seq of the job.running that holds it; 0: nobody does
	Node          string          `json:"-"`      // process that holds it
	AtMostOnce    bool            `json:"-"`      // its attempt must not be followed by another if its process dies
	LeasedUntil   time.Time       `json:"-"`      // when an attempt of a pull worker times out, which outlives our process; zero for any other
	Checkpoint    json.RawMessage `json:"-"`      // data of the last checkpoint, for the next attempt; nil once it is over
	Cursor        Cursor          `json:"cursor"` // of the last record
}

// Exists reports whether the job has any record.
func (j *Job) Exists() bool { return j.Cursor.Seq > 0 }

// ErrFold is the error of a record that cannot follow what came before it.
var ErrFold = errors.New("record does not follow")

// Fold adds one record to the job. It fails on a hole, on anything after the end
// and on a change of state that the table of edges does not have; the job is
// unchanged then.
func (j *Job) Fold(r *Record, at Place) error {
	if r.Seq != j.Cursor.Seq+1 {
		return fmt.Errorf("%w: seq %d after %d", ErrFold, r.Seq, j.Cursor.Seq)
	}
	to, legal := next(j.Status, r.Type)
	if !legal {
		return fmt.Errorf("%w: %s while %q", ErrFold, r.Type, j.Status)
	}
	if fold := folds[r.Type]; fold != nil {
		fold(j, r)
	}
	if r.Private != nil && r.Private.Finish > 0 {
		j.Finish = r.Private.Finish
	}
	if r.Private != nil && r.Private.Erase {
		j.Erased = true
	}
	j.Status = to
	j.Cursor = Cursor{Seq: r.Seq, Place: at}
	return nil
}

// folds has what each type changes beside the state; the others change nothing.
var folds = map[Type]func(*Job, *Record){
	Queued:          (*Job).foldQueued,
	Running:         (*Job).foldRunning,
	Progress:        func(j *Job, r *Record) { j.Progress = r.Data },
	Checkpoint:      (*Job).foldCheckpoint,
	CancelRequested: (*Job).foldCancelRequested,
	AttemptFailed:   (*Job).foldAttemptFailed,
	Succeeded:       (*Job).foldEnd,
	Failed:          (*Job).foldEnd,
	Canceled:        (*Job).foldEnd,
}

// QueuedData is the data of job.queued.
type QueuedData struct {
	Kind    string       `json:"kind"`
	RunAt   *Time        `json:"run_at"` // not before; nil: now
	Attempt int          `json:"attempt"`
	Reason  QueuedReason `json:"reason"`
}

// QueuedReason says why a job waits for a worker.
type QueuedReason string

// The reasons of a job.queued.
const (
	ReasonSubmitted QueuedReason = "submitted"  // it is new
	ReasonRetry     QueuedReason = "retry"      // the last attempt failed
	ReasonLeaseLost QueuedReason = "lease-lost" // the last attempt's process is gone
	ReasonDrain     QueuedReason = "drain"      // handed back unfinished; no attempt used up
)

// RunningData is the data of job.running.
type RunningData struct {
	Attempt   int    `json:"attempt"`
	Worker    string `json:"worker"`
	TimeoutAt Time   `json:"timeout_at"`
}

func (j *Job) foldQueued(r *Record) {
	if r.Private != nil && r.Private.Request != nil {
		j.accept(r)
	}
	var d QueuedData
	_ = json.Unmarshal(r.Data, &d) // ours: what does not parse means "now"
	j.RunAt = time.Time{}
	if d.RunAt != nil {
		j.RunAt = time.Time(*d.RunAt)
	}
	if d.Reason == ReasonLeaseLost {
		j.failedWith(j.Attempt, Problemf("lease-lost", "the process of the attempt ended"))
	}
	j.Attempt = r.Attempt
	j.release()
}

// accept takes the request out of the first record. The caller has set ID, Kind
// and Owner, which every message of the job carries.
func (j *Job) accept(r *Record) {
	q := r.Private.Request
	j.Request = q
	if q.Call != nil { // is read again when it is sent: it is not small, and many jobs may wait
		waiting := *q
		waiting.Call = nil
		j.Request = &waiting
	}
	j.MaxAttempts, j.Priority, j.Key, j.Tags, j.Batch, j.Once, j.Upload, j.Webhook = q.MaxAttempts, q.Priority, q.Key, q.Tags, q.Batch, q.Once, q.Upload, q.Webhook
	j.CreatedAt = r.Time
}

func (j *Job) foldRunning(r *Record) {
	j.Attempt, j.Lease, j.Progress, j.RunAt = r.Attempt, r.Seq, nil, time.Time{}
	if r.Private != nil {
		j.Node, j.AtMostOnce, j.LeasedUntil = r.Private.Node, r.Private.AtMostOnce, r.Private.LeasedUntil
	}
	if j.StartedAt.IsZero() {
		j.StartedAt = r.Time
	}
}

// foldCheckpoint keeps what the next attempt begins with. Of other workers an event
// of this name is theirs.
func (j *Job) foldCheckpoint(r *Record) {
	if !j.LeasedUntil.IsZero() {
		j.Checkpoint = r.Data
	}
}

func (j *Job) foldAttemptFailed(r *Record) {
	var d struct {
		Error *Problem `json:"error"`
	}
	if json.Unmarshal(r.Data, &d) == nil && d.Error != nil {
		j.failedWith(r.Attempt, d.Error)
	}
	j.release()
}

func (j *Job) foldCancelRequested(r *Record) {
	if j.CancelRequestedAt.IsZero() {
		j.CancelRequestedAt, j.CancelRequest = r.Time, r.Data
	}
}

func (j *Job) foldEnd(r *Record) {
	j.Output, j.FinishedAt, j.RunAt = r.Data, r.Time, time.Time{}
	if r.Private != nil {
		j.Result = r.Private.Result
	}
	retention := DefaultRetention
	if j.Request != nil && j.Request.Retention > 0 {
		retention = j.Request.Retention
	}
	j.ExpiresAt = r.Time.Add(retention)
	j.Request, j.CancelRequest, j.Checkpoint, j.Failures = nil, nil, nil, nil
	j.release()
}

func (j *Job) release() {
	j.Lease, j.Node, j.AtMostOnce, j.LeasedUntil = 0, "", false, time.Time{}
}

// EndedBy reports whether the worker that had the lease has ended its attempt itself.
// Of all attempts but the last that was ended so it is forgotten.
func (j *Job) EndedBy(lease uint64) bool { return lease > 0 && j.Finish == lease }

// Expired reports whether the job is kept no longer.
func (j *Job) Expired(now time.Time) bool {
	return !j.ExpiresAt.IsZero() && !now.Before(j.ExpiresAt)
}

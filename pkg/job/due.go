package job

import (
	"strings"
	"time"
)

// DueAt returns when a job that waits is overdue: from then on it is not begun any
// more. Zero: never, or it does not wait.
func (j *Job) DueAt() time.Time {
	if j.Status != StatusQueued || j.Request == nil {
		return time.Time{}
	}
	due := j.Request.Deadline
	if by := j.startBy(); !by.IsZero() && (due.IsZero() || by.Before(due)) {
		due = by
	}
	return due
}

// Late returns why r is not taken any more; nil: its deadline is to come, or it has none.
func (r *Request) Late(now time.Time) error {
	if r.Deadline.IsZero() || r.Deadline.After(now) {
		return nil
	}
	p := Problemf("invalid-request", "deadline: must be a time to come")
	p.Errors = []FieldError{{Pointer: "/deadline", Detail: "must be a time to come"}}
	return p
}

// startBy returns until when the first attempt must have begun; zero: it has, or nobody
// cares. The time counts from when it might have begun.
func (j *Job) startBy() time.Time {
	if j.Request.StartTimeout == 0 || !j.StartedAt.IsZero() {
		return time.Time{}
	}
	from := j.CreatedAt
	if j.RunAt.After(from) {
		from = j.RunAt
	}
	return from.Add(j.Request.StartTimeout)
}

// Overdue returns why a job that waits is not begun any more; nil: it may be.
func (j *Job) Overdue(now time.Time) *Problem {
	due := j.DueAt()
	switch {
	case due.IsZero() || now.Before(due):
		return nil
	case due.Equal(j.Request.Deadline):
		return DeadlineExceeded(due)
	}
	return Problemf("start-timeout", "no worker had it within %s, by %s", j.Request.StartTimeout, Time(due))
}

// DeadlineExceeded is the error of a job that was not over by its deadline.
func DeadlineExceeded(at time.Time) *Problem {
	return Problemf("deadline-exceeded", "the job was not done by %s", Time(at))
}

const (
	// maxFailures is how many earlier attempts the error of a job tells of, the last ones.
	maxFailures = 10
	// maxFailure is how much of each one's detail, in bytes.
	maxFailure = 500
)

func clipped(s string) string {
	if len(s) <= maxFailure {
		return s
	}
	return strings.ToValidUTF8(s[:maxFailure], "") + "…"
}

// failedWith notes that an attempt came to nothing, and why.
func (j *Job) failedWith(attempt int, p *Problem) {
	f := &Problem{Type: p.Type, Title: p.Title, Detail: clipped(p.Detail), Attempt: attempt}
	all := append(j.Failures[:len(j.Failures):len(j.Failures)], f) // a copy: Fold writes into nothing that others see
	j.Failures = all[max(0, len(all)-maxFailures):]
}

package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Problem is a problem details object (RFC 9457): the answer to a request that
// failed, and the error of a job that did. It is the only kind of error whose
// text a client sees.
type Problem struct {
	Type       string        `json:"type"`             // "/problems/" and a name
	Title      string        `json:"title"`            // the same for every problem of the type
	Status     int           `json:"status,omitempty"` // of the answer; set where it is sent
	Detail     string        `json:"detail,omitempty"`
	Instance   string        `json:"instance,omitempty"`
	Errors     []FieldError  `json:"errors,omitempty"`
	Retryable  bool          `json:"retryable,omitempty"` // of a job's error: another attempt might help
	Attempt    int           `json:"attempt,omitempty"`   // of a job's error: the attempt that failed
	Attempts   []*Problem    `json:"attempts,omitempty"`  // of a job's error: those of earlier attempts, at most the last ten
	RetryAfter time.Duration `json:"-"`                   // when to come back, 0: not said
}

// FieldError says what is wrong with one place of the request's body.
type FieldError struct {
	Pointer string `json:"pointer"` // JSON pointer (RFC 6901)
	Detail  string `json:"detail"`
}

const problemPath = "/problems/"

// Problemf returns a problem of the named type; name is a key of Titles.
func Problemf(name, format string, args ...any) *Problem {
	return &Problem{Type: problemPath + name, Title: Titles[name], Detail: fmt.Sprintf(format, args...)}
}

// Name returns the last part of the problem's type.
func (p *Problem) Name() string { return strings.TrimPrefix(p.Type, problemPath) }

// Error returns the problem's detail, or its title if there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Is reports whether target is a problem of the same type.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Type == p.Type
}

// ProblemOf returns err as the error of an attempt. What is not a problem
// already may be retried: we do not know better.
func ProblemOf(err error, attempt int) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		c := *p
		c.Attempt = attempt
		return &c
	}
	return &Problem{Type: problemPath + "attempt-failed", Title: Titles["attempt-failed"], Detail: err.Error(), Retryable: true, Attempt: attempt}
}

// JSON returns the problem as the data of an event.
func (p *Problem) JSON() json.RawMessage { return MustData(p) }

// ErrCanceled is the cause of the end of an attempt's context when somebody asked the
// job to stop.
var ErrCanceled = errors.New("the job was canceled")

// The problems that code asks for by errors.Is.
var (
	ErrNotFound  = Problemf("not-found", "")
	ErrLeaseLost = Problemf("lease-lost", "")
	ErrQueueFull = Problemf("queue-full", "")
	ErrDraining  = Problemf("draining", "")
	ErrTooLarge  = Problemf("too-large", "")
	ErrDamaged   = Problemf("job-damaged", "")
)

// Titles names every type of problem. The part of requests comes first, then
// that of jobs.
var Titles = map[string]string{
	"invalid-request":       "The request is malformed",
	"unauthenticated":       "Credentials are missing or not valid",
	"forbidden":             "The credentials do not allow this",
	"not-found":             "There is no such thing",
	"method-not-allowed":    "The resource does not have this method",
	"cross-origin":          "Another origin may not do this",
	"lease-lost":            "The attempt does not have the job any more",
	"in-progress":           "It is not done yet",
	"job-failed":            "The job failed",
	"job-canceled":          "The job was canceled",
	"job-damaged":           "What is stored of the job is damaged",
	"precondition-failed":   "The representation is not the one that was named",
	"too-large":             "The body is larger than allowed",
	"unsupported-type":      "The media type is not accepted here",
	"wrong-host":            "The Host header does not name this server",
	"invalid-batch":         "No job of the batch was stored",
	"invalid-input":         "The input is not of the form that is expected",
	"idempotency-mismatch":  "The key was used for another request",
	"rate-limited":          "Too many requests",
	"queue-full":            "The queue of this kind is full",
	"draining":              "The server is shutting down",
	"storage-full":          "The store is full",
	"storage-unavailable":   "The store does not answer",
	"headers-too-large":     "The request's headers are larger than allowed",
	"range-not-satisfiable": "The range lies outside the result",
	"upstream-timeout":      "The upstream did not answer in time",
	"internal":              "The server failed",

	"attempt-failed":    "The attempt failed",
	"start-timeout":     "The job was not begun in time",
	"deadline-exceeded": "The job was not done in time",
	"attempt-timeout":   "The attempt took longer than allowed",
	"exit-status":       "The command failed",
	"upstream-status":   "The upstream refused",
	"upstream-failed":   "The upstream could not be asked",
	"outcome-unknown":   "The work may or may not have been done",
	"worker-panic":      "The worker crashed",
	"invalid-result":    "The worker's result cannot be stored",
	"attempts-used-up":  "No attempt was left",
}

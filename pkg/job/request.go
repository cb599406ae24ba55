package job

import (
	"math/rand/v2"
	"time"
)

// Request is what a job was asked to do. It rides in the job's first record;
// its input lies beside that record as an attachment.
type Request struct {
	Kind               string            `json:"-"`
	Owner              string            `json:"-"`                // stored with every message of the job
	Input              []byte            `json:"-"`                // the attachment
	Upload             *Upload           `json:"upload,omitempty"` // in place of Input
	InputType          string            `json:"input_type,omitempty"`
	Call               *Call             `json:"call,omitempty"` // of a route; a Job's Request is without it
	Priority           Priority          `json:"priority,omitempty"`
	Tags               []string          `json:"tags,omitempty"`
	Batch              string            `json:"batch,omitempty"`
	Key                string            `json:"key,omitempty"`
	MaxAttempts        int               `json:"max_attempts,omitempty"`
	Timeout            time.Duration     `json:"timeout,omitempty"`       // of an attempt
	Retention          time.Duration     `json:"retention,omitempty"`     // after the end
	StartTimeout       time.Duration     `json:"start_timeout,omitempty"` // for the first attempt to begin; 0: any
	RunAt              time.Time         `json:"-"`                       // not before; it stands in the first record's data
	Deadline           time.Time         `json:"deadline,omitzero"`       // for the end; zero: none
	CancelOnDisconnect bool              `json:"cancel_on_disconnect,omitempty"`
	Once               *Once             `json:"once,omitempty"`
	Webhook            *Webhook          `json:"webhook,omitempty"`  // nil: nobody is told
	Message            string            `json:"message,omitempty"`  // UUID of the Watermill message it came as
	Metadata           map[string]string `json:"metadata,omitempty"` // of that message
}

// Upload is an input that was stored before its job, because it is too large to lie with
// the job's first record. It belongs to one job and goes with it.
type Upload struct {
	ID     string   `json:"id"`
	Size   int64    `json:"size"` // bytes
	SHA256 string   `json:"sha256"`
	Pieces []uint64 `json:"pieces,omitempty"` // where the first of them are
}

// Once says which idempotency key a job came with.
type Once struct {
	Record      string `json:"record"`      // name of what is stored of the key
	Fingerprint string `json:"fingerprint"` // of what was asked for
}

// Priority says which queued jobs of a kind go first.
type Priority int8

// The three priorities; the zero value is the usual one.
const (
	Low    Priority = -1
	Normal Priority = 0
	High   Priority = 1
)

// String returns the priority's name on the wire.
func (p Priority) String() string {
	switch {
	case p < Normal:
		return "low"
	case p > Normal:
		return "high"
	}
	return "normal"
}

// Kind is one sort of work and its rules.
type Kind struct {
	Name         string
	Worker       string        // what runs it: func, exec, http, pull, route
	Description  string        // a sentence for people
	Timeout      time.Duration // of an attempt
	MaxAttempts  int
	Concurrency  int           // attempts at once, in all
	QueueLimit   int           // jobs queued at most; more are refused
	Retention    time.Duration // how long a job is kept after its end
	Backoff      Backoff
	Priority     Priority      // of a job that was submitted over HTTP and does not say
	StartTimeout time.Duration // of a job that does not say; 0: none
	Deadline     time.Duration // of a job that does not say, from when it may begin; 0: none
	Input        []byte        // JSON Schema of the input; nil: anything
	Result       []byte        // JSON Schema of the result; for readers only
	MaxInput     int64         // bytes
	Grace        time.Duration // for an attempt that was told to end, before the job is taken from it
	AtMostOnce   bool          // an attempt whose process died is not repeated: the work may have been done
	Lease        time.Duration // of a pull worker: how long it may say nothing; 0: the attempts run in our process
}

// AnyKind is the name under which the rules stand of kinds that have none of their
// own; without it those follow the defaults.
const AnyKind = "*"

// Rules returns the rules of the kind called name, out of those of kinds, with a
// default in place of each zero.
func Rules(kinds map[string]Kind, name string) Kind {
	k, ok := kinds[name]
	if !ok {
		k = kinds[AnyKind]
	}
	k.Name = name
	return k.WithDefaults()
}

// Backoff says how long a failed attempt waits for the next: First, doubled with
// each attempt up to Max, and spread by ±20 % so that jobs that failed together do
// not come back together.
type Backoff struct{ First, Max time.Duration }

// The defaults of a kind, each with its reason.
const (
	DefaultTimeout     = 15 * time.Minute // longer than any request would be waited for; a stuck attempt still ends
	DefaultMaxAttempts = 3                // one for a crash, one for bad luck
	DefaultConcurrency = 8                // a few for each core of a small machine
	DefaultQueueLimit  = 10_000           // minutes of work for most kinds; more is a wait nobody wants
	DefaultRetention   = 24 * time.Hour   // a client that slept over night still finds its result
	DefaultGrace       = 15 * time.Second // more than a command has between SIGTERM and SIGKILL
	DefaultLease       = 30 * time.Second // three heartbeats of 10 s: one may be lost, and one late
	DefaultMaxInput    = 1 << 20          // fits a NATS message with its default limit
)

// DefaultBackoff starts shorter than a person's patience and ends shorter than a
// pager's.
var DefaultBackoff = Backoff{First: time.Second, Max: time.Minute}

// WithDefaults returns k with a default in place of each zero.
func (k Kind) WithDefaults() Kind {
	k.Timeout = orDefault(k.Timeout, DefaultTimeout)
	k.MaxAttempts = orDefault(k.MaxAttempts, DefaultMaxAttempts)
	k.Concurrency = orDefault(k.Concurrency, DefaultConcurrency)
	k.QueueLimit = orDefault(k.QueueLimit, DefaultQueueLimit)
	k.Retention = orDefault(k.Retention, DefaultRetention)
	k.Backoff = orDefault(k.Backoff, DefaultBackoff)
	k.Grace = orDefault(k.Grace, DefaultGrace)
	k.MaxInput = orDefault(k.MaxInput, DefaultMaxInput)
	return k
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// After returns the wait behind the given attempt, from 1.
func (b Backoff) After(attempt int) time.Duration {
	b.Max = max(b.Max, b.First)
	wait := b.First
	for range attempt - 1 {
		if wait *= 2; wait >= b.Max {
			break
		}
	}
	const spread = 0.2
	return time.Duration(float64(min(wait, b.Max)) * (1 - spread + 2*spread*rand.Float64()))
}

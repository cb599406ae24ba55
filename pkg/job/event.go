package job

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Type says what happened to a job.
type Type string

// The types Millstream itself writes; see the contract for their data.
const (
	Queued          Type = "job.queued"           // waits for a worker
	Running         Type = "job.running"          // a worker holds it; its seq is the lease
	Progress        Type = "job.progress"         // how far the attempt is
	Output          Type = "job.output"           // a piece of the attempt's output, append-only
	Log             Type = "job.log"              // a line for people
	CancelRequested Type = "job.cancel_requested" // somebody wants it to stop
	AttemptFailed   Type = "job.attempt_failed"   // an attempt failed and another will follow
	Succeeded       Type = "job.succeeded"        // over, with a result
	Failed          Type = "job.failed"           // over, with an error
	Canceled        Type = "job.canceled"         // over, because somebody asked
)

// Checkpoint is the type of a pull worker's event whose data the next attempt is given.
// Any other worker may use the name for what it likes.
const Checkpoint Type = "checkpoint"

// The types that go to one reader only and are never stored.
const (
	StreamReset  Type = "stream.reset"  // start over from the snapshot
	StreamEnd    Type = "stream.end"    // come back later, with your last id
	StreamErased Type = "stream.erased" // the job is gone
)

// Terminal reports whether t is the last event of a job.
func (t Type) Terminal() bool { return t == Succeeded || t == Failed || t == Canceled }

// Reserved reports whether t is in a namespace that workers may not write in.
func (t Type) Reserved() bool {
	return strings.HasPrefix(string(t), "job.") || strings.HasPrefix(string(t), "stream.")
}

// ValidType reports whether t can name an event: [A-Za-z][A-Za-z0-9._-]{0,63},
// and none of the three names that EventSource uses itself (WHATWG HTML 9.2).
func ValidType(t Type) bool {
	if t == "" || len(t) > maxName || !letter(t[0]) {
		return false
	}
	for i := range len(t) {
		if !alphanumeric(t[i]) && strings.IndexByte("._-", t[i]) < 0 {
			return false
		}
	}
	return t != "error" && t != "open" && t != "message"
}

// Place is where in the log a record lies. Two records of one job may share a
// place: they were stored as one message.
type Place struct {
	Position uint64 // sequence of the message in the log
	Epoch    uint64 // life of the store it was written in; positions repeat only across epochs
}

// Event is one thing that happened to a job, as every transport shows it.
type Event struct {
	Record
	Job   ID
	Place Place
}

// Cursor returns the event's id: the resume point behind it.
func (e *Event) Cursor() Cursor { return Cursor{Seq: e.Seq, Place: e.Place} }

// AppendJSON appends the event object of the contract to b, on one line.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = e.Cursor().Append(b)
	b = append(b, `",`...)
	return e.Record.appendFields(b, e.Job)
}

// AppendAside does so for an event that is no place to resume from: its id is null.
func (e *Event) AppendAside(b []byte) []byte {
	b = append(b, `{"id":null,`...)
	return e.Record.appendFields(b, e.Job)
}

// MarshalJSON returns the event object of the contract.
func (e *Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// UnmarshalJSON reads the event object of the contract; members it does not know
// are ignored. Clients need it, the server never does.
func (e *Event) UnmarshalJSON(b []byte) error {
	var o struct {
		ID      string          `json:"id"`
		Seq     uint64          `json:"seq"`
		Type    Type            `json:"type"`
		Job     ID              `json:"job"`
		Attempt int             `json:"attempt"`
		Time    time.Time       `json:"time"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return fmt.Errorf("event: %w", err)
	}
	*e = Event{Job: o.Job, Record: Record{Seq: o.Seq, Type: o.Type, Attempt: o.Attempt, Time: o.Time, Data: o.Data}}
	if c, err := ParseCursor(o.ID); err == nil {
		e.Place = c.Place
	}
	return nil
}

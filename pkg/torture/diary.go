package torture

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// entry is a line of a diary. Which fields it has depends on what it says.
type entry struct {
	At     time.Time       `json:"at"`
	What   what            `json:"what"`
	Job    string          `json:"job,omitempty"`
	Kind   string          `json:"kind,omitempty"`
	Key    string          `json:"key,omitempty"`
	By     string          `json:"by,omitempty"` // transport, or who was frozen
	Status int             `json:"status,omitempty"`
	State  string          `json:"state,omitempty"` // of a job
	Run    string          `json:"run,omitempty"`   // of an attempt
	Said   *said           `json:"said,omitempty"`
	For    time.Duration   `json:"for,omitempty"`
	Event  json.RawMessage `json:"event,omitempty"`
	Detail string          `json:"detail,omitempty"`

	Sent    time.Time `json:"sent,omitzero"`     // when it was asked for; of a submit, for the first time
	Of      string    `json:"of,omitempty"`      // the job that was submitted again
	Attempt int       `json:"attempt,omitempty"` // as the job says
	Cursor  string    `json:"cursor,omitempty"`  // the same
	Tag     string    `json:"tag,omitempty"`     // ETag
	Known   string    `json:"known,omitempty"`   // If-None-Match
	From    int64     `json:"from,omitempty"`    // of a result: where Bytes begin
	Size    int64     `json:"size,omitempty"`    // of a result, all of it
	Bytes   []byte    `json:"bytes,omitempty"`

	Hook  bool   `json:"hook,omitempty"`  // its end is to be delivered
	Batch string `json:"batch,omitempty"` // that the job is in
	Under string `json:"under,omitempty"` // the key that the batch was submitted with
	Jobs  int    `json:"jobs,omitempty"`  // how many the batch should have
}

// what is what an entry says.
type what string

const (
	// Of submitters and cancelers.
	accepted what = "accepted"
	refused  what = "refused"
	silent   what = "unanswered"
	canceled what = "canceled"
	declined what = "declined" // an item of a batch that is no job

	// Of readers.
	follows what = "follows"
	opened  what = "opened"
	got     what = "event"
	broke   what = "broke"
	told    what = "over" // that there is no more
	gaveUp  what = "gave up"

	// Of watchers, who look at the job itself, and of fetchers, who want its result.
	watches what = "watches"
	saw     what = "saw"
	fetches what = "fetches"
	piece   what = "piece"
	fetched what = "fetched" // all of it, or that there is none

	// Of erasers.
	erasing what = "erasing"
	erased  what = "erased"
	probed  what = "probed" // what should not be there any more

	// Of all who ask for a job.
	missing what = "not there"

	// Of workers and of the upstream.
	asked     what = "asked"
	delivered what = "delivered" // by a webhook
	leased    what = "leased"
	reported  what = "reported"
	lostIt    what = "lease lost"
	froze     what = "froze"
	left      what = "left" // without a word, as one that is killed

	// Of the faults and the server.
	fault what = "fault"
	ready what = "ready" // after For
	died  what = "died"

	// Of the audit: what the server has at the end.
	has    what = "has"
	gone   what = "gone"
	lists  what = "lists"  // with its batch
	listed what = "listed" // all of a batch

	// Of anybody: what must never be.
	surprise what = "surprise"
)

// diary is what one client wrote down: a line for each thing that happened to it, in
// order, and none is ever changed.
type diary struct {
	mu sync.Mutex
	f  *os.File
}

func openDiary(path string) (*diary, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &diary{f: f}, err
}

func (d *diary) note(e entry) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(err) // texts and numbers, and JSON that was read
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.f.Write(append(line, '\n')); err != nil {
		panic(err) // what nobody wrote down nobody can judge
	}
}

func (d *diary) close() { _ = d.f.Close() }

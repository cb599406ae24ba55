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
}

// what is what an entry says.
type what string

const (
	// Of submitters and cancelers.
	accepted what = "accepted"
	refused  what = "refused"
	silent   what = "unanswered"
	canceled what = "canceled"

	// Of readers.
	follows what = "follows"
	opened  what = "opened"
	got     what = "event"
	broke   what = "broke"
	told    what = "over" // that there is no more
	gaveUp  what = "gave up"

	// Of workers and of the upstream.
	asked    what = "asked"
	leased   what = "leased"
	reported what = "reported"
	lostIt   what = "lease lost"
	froze    what = "froze"
	left     what = "left" // without a word, as one that is killed

	// Of the faults and the server.
	fault what = "fault"
	ready what = "ready" // after For
	died  what = "died"

	// Of the audit: what the server has at the end.
	has  what = "has"
	gone what = "gone"

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

package torture

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// event is an event as a client sees it.
type event struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Job     string          `json:"job"`
	Seq     uint64          `json:"seq"`
	Attempt int             `json:"attempt"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`

	raw string // the JSON text itself
}

func parseEvent(text []byte) (event, error) {
	e := event{raw: string(text)}
	err := json.Unmarshal(text, &e)
	return e, err
}

// over reports whether nothing may follow the event.
func (e *event) over() bool {
	return e.Type == "job.succeeded" || e.Type == "job.failed" || e.Type == "job.canceled"
}

// reason returns the data's member of that name.
func (e *event) reason() string {
	var d struct{ Reason string }
	_ = json.Unmarshal(e.Data, &d)
	return d.Reason
}

// said is what each of our kinds of work says again and again: who it is, that is
// which attempt, and how far it is. Try tells repetitions apart, where the work cannot
// know whether it was heard.
type said struct {
	Run string `json:"run"`
	N   int    `json:"n"`
	Of  int    `json:"of"`
	Try int    `json:"try,omitempty"`
}

// saidBy returns what the work says in its own events.
func (e *event) saidBy() (s said, ok bool) {
	err := json.Unmarshal(e.Data, &s)
	return s, err == nil && s.Run != "" && !strings.HasPrefix(e.Type, "job.")
}

// chunk returns the text of a job.output.
func (e *event) chunk() string {
	var d struct{ Chunk string }
	if e.Type == "job.output" {
		_ = json.Unmarshal(e.Data, &d)
	}
	return d.Chunk
}

// linesSaid reads what commands say: lines of "<run> <n>/<of>". A line without its end
// is not there yet.
func linesSaid(text string) (list []said) {
	for line := range bytes.Lines([]byte(text)) {
		if s, ok := lineSaid(string(line)); ok {
			list = append(list, s)
		}
	}
	return list
}

func lineSaid(line string) (s said, ok bool) {
	line, ended := strings.CutSuffix(line, "\n")
	run, rest, found := strings.Cut(line, " ")
	n, of, slash := strings.Cut(rest, "/")
	if !ended || !found || !slash {
		return s, false
	}
	var err1, err2 error
	s.Run = run
	s.N, err1 = strconv.Atoi(n)
	s.Of, err2 = strconv.Atoi(of)
	return s, err1 == nil && err2 == nil
}

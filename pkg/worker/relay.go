package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/millstream/millstream/pkg/job"
)

// event is what a foreign program says, as one line of JSON:
//
//	{"type":"job.progress","data":{"progress":42,"total":100,"message":"…"}}
//	{"type":"job.output","data":{"chunk":"…","encoding":"base64"}}
//	{"type":"job.log","data":{"stream":"…","line":"…"}}
//	{"type":"page.done","data":…}
//
// Those, and no other members. The first three go the way of Task.Progress, Write
// and Log; any other name is the program's own, as with Task.Emit. Where the
// program's result is not its output, a line of type "result" has it as data.
type event struct {
	Type job.Type
	Data json.RawMessage
}

// resultType is the type of the line that has the result.
const resultType job.Type = "result"

// envelope is how much longer than its data a line may be.
const envelope = 1 << 10

// parseEvent reads one line. It accepts what a worker may write, and nothing else.
func parseEvent(line []byte) (event, error) {
	var e event
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields() // a line of something else that has a "type" too would lose the rest
	switch err := d.Decode(&e); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return event{}, errors.New("is not an event: it breaks off")
	case err != nil:
		return event{}, fmt.Errorf("is not an event: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return event{}, errors.New("is not an event: there is more behind it")
	}
	if e.Data == nil {
		e.Data = json.RawMessage("{}")
	}
	switch {
	case e.Type == job.Progress, e.Type == job.Output, e.Type == job.Log:
		return e, nil
	case !job.ValidType(e.Type) || e.Type.Reserved():
		return event{}, fmt.Errorf("has type %q, which a worker may not write", clip(string(e.Type), maxStream))
	}
	return e, nil
}

// relay says what e says. An error of bad data is a badEvent.
func (t *Task) relay(e event) error {
	switch e.Type {
	case job.Progress:
		return t.relayProgress(e.Data)
	case job.Output:
		return t.relayOutput(e.Data)
	case job.Log:
		return t.relayLog(e.Data)
	}
	if err := t.Emit(string(e.Type), e.Data); !errors.Is(err, job.ErrTooLarge) {
		return err
	}
	return nil // a job.log said so
}

// badEvent is the error of an event that lacks what its type needs.
type badEvent string

func (b badEvent) Error() string { return string(b) }

func (t *Task) relayProgress(data []byte) error {
	var d struct {
		Progress *float64
		Total    float64
		Message  string
	}
	if err := json.Unmarshal(data, &d); err != nil || d.Progress == nil {
		return badEvent("has no data that job.progress could have")
	}
	t.Progress(*d.Progress, d.Total, d.Message)
	return nil
}

func (t *Task) relayOutput(data []byte) error {
	var d struct{ Chunk, Encoding *string }
	if err := json.Unmarshal(data, &d); err != nil || d.Chunk == nil {
		return badEvent("has no data that job.output could have")
	}
	chunk := []byte(*d.Chunk)
	if d.Encoding != nil {
		var err error
		if chunk, err = base64.StdEncoding.DecodeString(*d.Chunk); err != nil || *d.Encoding != "base64" {
			return badEvent("has a chunk that is not base64")
		}
	}
	_, err := t.Write(chunk)
	return err
}

func (t *Task) relayLog(data []byte) error {
	d := struct {
		Stream string
		Line   *string
	}{Stream: "log"}
	if err := json.Unmarshal(data, &d); err != nil || d.Line == nil {
		return badEvent("has no data that job.log could have")
	}
	t.Log(d.Stream, *d.Line)
	return nil
}

// reader relays the events of a stream of lines.
type reader struct {
	t       *Task
	name    string          // of the stream, for people
	results bool            // a line of type "result" is the result, not an event
	result  json.RawMessage // of the last such line
	lost    error           // that line was there, but could not be read
	lines   int
	long    bool // the line was too long and is not over yet
}

// value returns the result that the events had.
func (s *reader) value() (any, error) {
	if s.result == nil {
		return nil, s.lost
	}
	return s.result, s.lost
}

// beginsResult is how the line of a result begins that cannot be parsed: there is
// too much of it, or not all.
var beginsResult = regexp.MustCompile(`^\s*\{\s*"type"\s*:\s*"result"`)

// read relays all events of r. A line that is none is left out, which a job.log
// says: one bad line does not undo an hour of work. Without its result, though, the
// work would not be what it says: that is an error, if the command has no other.
func (s *reader) read(r io.Reader) error {
	return eachLine(r, s.t.lim.Event+envelope, func(line []byte, more bool) error {
		wasLong := s.long
		if s.long = more; wasLong {
			return nil
		}
		s.lines++
		if more && s.isResult(line) {
			s.lose("is longer than %d bytes: let standard output be the result", s.t.lim.Event)
			return nil
		}
		if more {
			s.t.say("line %d of %s is longer than an event may be and was left out", s.lines, s.name)
			return nil
		}
		return s.line(line)
	})
}

func (s *reader) line(line []byte) error {
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	e, err := parseEvent(line)
	if err == nil && e.Type == resultType && s.results {
		s.result, s.lost = e.Data, nil
		return nil
	}
	if err != nil && s.isResult(line) {
		s.lose("%v", err)
		return nil
	}
	if err == nil {
		err = s.t.relay(e)
		if !errors.As(err, new(badEvent)) {
			return err
		}
	}
	s.t.say("line %d of %s %v; it was left out", s.lines, s.name, err)
	return nil
}

// isResult reports whether a line that cannot be parsed was to be the result.
func (s *reader) isResult(line []byte) bool { return s.results && beginsResult.Match(line) }

func (s *reader) lose(format string, args ...any) {
	s.lost = job.Problemf("invalid-result", "the line that has the result "+format, args...)
}

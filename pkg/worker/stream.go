package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// relayed is the result of a stream that names none: how much there was of it.
// What was in it the job's events have.
type relayed struct {
	Events int `json:"events"`
}

// relayStream relays a text/event-stream, each event as it comes. Its result is
// the number of events. One that ends in the middle of an event has broken, even if
// the connection ended in order: half an event is not shown, and not the end either.
func (t *Task) relayStream(r io.Reader) (any, error) {
	events := sse.NewReader(r)
	for n := 0; ; n++ {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			return relayed{n}, nil
		}
		if err == nil {
			err = t.relayForeign(job.Type(e.Type), e.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("event stream: %w", err)
		}
	}
}

// relayForeign relays an event of a stream. The three types that a worker shares
// with Millstream are taken as such, if their data fits. Any other keeps a name
// that a worker may use; in front of one that it may not goes "upstream.", and an
// event without a name, or with one that is none, is upstream.message. Data that
// is JSON stays JSON, any other becomes a string.
func (t *Task) relayForeign(typ job.Type, data []byte) error {
	value := foreignData(data)
	if typ == job.Progress || typ == job.Output || typ == job.Log {
		if err := t.relay(event{typ, value}); !errors.As(err, new(badEvent)) {
			return err
		}
	}
	return t.relay(event{foreignType(typ), value})
}

const foreignPrefix = "upstream."

func foreignType(typ job.Type) job.Type {
	if job.ValidType(typ) && !typ.Reserved() {
		return typ
	}
	if named := foreignPrefix + typ; job.ValidType(named) {
		return named
	}
	return foreignPrefix + "message"
}

// foreignData returns data as JSON. What has space around it is text: a token of a
// language model that happens to be a number keeps the space that way. So is what
// nests deeper than an event may.
func foreignData(data []byte) json.RawMessage {
	if json.Valid(data) && !isSpace(data[0]) && !isSpace(data[len(data)-1]) && !job.Deep(data) {
		return data
	}
	return job.MustJSON(string(data))
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// relayLines relays NDJSON: a line that is an event as a command would write it is
// that event, any other is output as it stands, and an empty one is a heartbeat. The
// result is that of the line of type "result", else the output if there was nothing
// but output, so that a plain NDJSON answer is its own result; else the number of
// events.
func (t *Task) relayLines(r io.Reader, contentType string) (any, error) {
	s := lineRelay{t: t}
	if err := eachLine(r, t.lim.Event+envelope, s.line); err != nil {
		return nil, fmt.Errorf("lines: %w", err)
	}
	switch {
	case s.result != nil:
		return s.result, nil
	case s.events == 0:
		return Output{Type: contentType}, nil
	}
	return relayed{s.events}, nil
}

type lineRelay struct {
	t      *Task
	result json.RawMessage
	events int
	inside bool // of a line that comes in pieces
}

func (s *lineRelay) line(piece []byte, more bool) error {
	wasInside := s.inside
	s.inside = more
	if wasInside || more {
		return s.write(piece, more)
	}
	if len(piece) == 0 {
		return nil
	}
	e, err := parseEvent(piece)
	if err != nil {
		return s.write(piece, false)
	}
	if e.Type == resultType {
		s.result = e.Data
		return nil
	}
	if err = s.t.relay(e); errors.As(err, new(badEvent)) {
		return s.write(piece, false)
	}
	s.events++
	return err
}

func (s *lineRelay) write(piece []byte, more bool) error {
	if !more {
		piece = append(piece[:len(piece):len(piece)], '\n')
	}
	_, err := s.t.Write(piece)
	return err
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// event is an event as a client sees it.
type event struct {
	ID, Type, Job string
	Seq           uint64
	Attempt       int
	Time          time.Time
	Data          json.RawMessage
	raw           string // the JSON text itself
}

// over reports whether nothing may follow the event.
func (e event) over() bool {
	return e.Type == "job.succeeded" || e.Type == "job.failed" || e.Type == "job.canceled"
}

// field returns a member of the event's data.
func (e event) field(name string) any {
	var o object
	if json.Unmarshal(e.Data, &o) != nil {
		return nil
	}
	return o[name]
}

// frames reads a stream as strictly as the contract is written: what an
// EventSource would forgive is an error here.
type frames struct {
	in         *bufio.Reader
	retry      time.Duration // the last that was told
	heartbeats int
	at         string // the place that was told without an event
}

func newFrames(r io.Reader) *frames { return &frames{in: bufio.NewReaderSize(r, 64<<10)} }

// read returns the next event; io.EOF means that the stream ended between two.
func (f *frames) read() (event, error) {
	var name string
	for {
		line, err := f.line()
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case err != nil && name != "":
			return event{}, io.ErrUnexpectedEOF // what a client must throw away
		case err != nil:
			return event{}, err
		case line == ":":
			f.heartbeats++
		case field == "id" && name == "" && value != "": // how far the stream is
			if err := f.blank(); err != nil {
				return event{}, err
			}
			f.heartbeats++
			f.at = value
		case field == "retry":
			ms, err := strconv.Atoi(value)
			if err != nil || ms <= 0 {
				return event{}, fmt.Errorf("not a retry: %q", line)
			}
			f.retry = time.Duration(ms) * time.Millisecond
		case field == "event" && name == "" && value != "":
			name = value
		case field == "data" && name != "":
			return f.event(name, value)
		default:
			return event{}, fmt.Errorf("line out of place: %q", line)
		}
	}
}

// event makes an event of a frame's fields and reads what is left of it.
func (f *frames) event(name, data string) (event, error) {
	id, err := f.id()
	if err != nil {
		return event{}, err
	}
	e := event{raw: data}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return event{}, fmt.Errorf("%w: %q", err, data)
	}
	if e.ID != id || e.Type != name {
		return event{}, fmt.Errorf("frame %q %q says of itself %q", id, name, data)
	}
	return e, nil
}

// id reads what stands behind the data of a frame: its id, unless nothing can be resumed
// from it, and a blank line.
func (f *frames) id() (string, error) {
	line, err := f.line()
	id, found := strings.CutPrefix(line, "id: ")
	switch {
	case err != nil:
		return "", io.ErrUnexpectedEOF // what a client must throw away
	case found:
		return id, f.blank()
	case line != "":
		return "", fmt.Errorf("a line out of place: %q", line)
	}
	return "", nil
}

func (f *frames) blank() error {
	switch line, err := f.line(); {
	case err != nil:
		return io.ErrUnexpectedEOF
	case line != "":
		return fmt.Errorf("no blank line, but %q", line)
	}
	return nil
}

func (f *frames) line() (string, error) {
	line, err := f.in.ReadString('\n')
	if err == io.EOF && line != "" {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSuffix(line, "\n"), err
}

package torture

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// frames reads a stream as strictly as the contract is written: what an EventSource
// would forgive is a surprise here.
type frames struct {
	in *bufio.Reader
	at string // the place that was told without an event; "": none
}

// read returns the next event. Any error but a surprise means that the stream ended, and
// that what had come of an event is to be thrown away.
func (f *frames) read() (event, error) {
	var name string
	for {
		line, err := f.line()
		if err != nil {
			return event{}, err
		}
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case line == ":": // a heartbeat
		case field == "id" && name == "" && value != "": // how far it is
			if err := f.blank(); err != nil {
				return event{}, err
			}
			f.at = value
		case field == "retry":
			if ms, err := strconv.Atoi(value); err != nil || ms <= 0 {
				return event{}, unexpected(fmt.Sprintf("not a retry: %q", line))
			}
		case field == "event" && name == "" && value != "":
			name = value
		case field == "data" && name != "":
			return f.event(name, value)
		default:
			return event{}, unexpected(fmt.Sprintf("a line out of place: %q", line))
		}
	}
}

// event makes an event of a frame's fields and reads what is left of it.
func (f *frames) event(name, data string) (event, error) {
	id, err := f.id()
	if err != nil {
		return event{}, err
	}
	e, err := parseEvent([]byte(data))
	if err != nil || e.ID != id || e.Type != name {
		return event{}, unexpected(fmt.Sprintf("a frame %q %q says of itself %q", id, name, data))
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
		return "", err
	case found:
		return id, f.blank()
	case line != "":
		return "", unexpected(fmt.Sprintf("a line out of place: %q", line))
	}
	return "", nil
}

func (f *frames) blank() error {
	line, err := f.line()
	if err == nil && line != "" {
		err = unexpected(fmt.Sprintf("no blank line, but %q", line))
	}
	return err
}

// line returns a whole line.
func (f *frames) line() (string, error) {
	line, err := f.in.ReadString('\n')
	if err == io.EOF && line != "" {
		err = io.ErrUnexpectedEOF
	}
	return strings.TrimSuffix(line, "\n"), err
}

package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"time"
	"unicode/utf8"
)

// MaxEvent is the size of the largest event a Reader takes: four times the
// largest that Millstream stores, so that only a broken or hostile peer meets it.
const MaxEvent = 1 << 20

// ErrTooLarge is the error of an event, or a line, of more than MaxEvent bytes.
var ErrTooLarge = errors.New("sse: event is too large")

// ErrUnfinished is the error of a stream that ends in the middle of an event, or of
// a line, though its underlying reader knows of no error: what had come is lost.
var ErrUnfinished = errors.New("sse: stream ends in the middle of an event")

// Event is one event of a stream, as a client sees it.
type Event struct {
	ID   string // the last id that came, with this event or before it
	Type string // "message" if it has no name
	Data []byte // its data lines, joined by LF; valid until the next call of Next
}

// Reader reads the events of a stream. It is not for concurrent use.
//
// Comments, heartbeats among them, and frames without data are not events and are
// not seen here. A client that wants to know whether its peer lives watches the
// io.Reader it gives to NewReader: any byte is a sign of life, and that of a large
// event that comes slowly no less than a heartbeat.
type Reader struct {
	src    *bufio.Reader
	line   []byte
	begun  bool // the first line was read
	skipLF bool // the last line ended with CR: a LF that follows belongs to it
	err    error

	// Of the event that is being read.
	data []byte // each line with a LF behind it
	typ  string
	id   string // takes effect when the event ends

	lastID   string
	retry    time.Duration
	hasRetry bool
}

// NewReader returns a Reader of the stream r, from its first byte.
func NewReader(r io.Reader) *Reader { return &Reader{src: bufio.NewReader(r)} }

// Next returns the next event. An event that the stream's end cut off is not
// returned, and its id does not count: it was not received. The error is
// ErrUnfinished then, at any other end io.EOF, or what the underlying reader said;
// it stays.
func (r *Reader) Next() (Event, error) {
	r.data, r.typ = r.data[:0], ""
	for r.err == nil {
		switch r.err = r.readLine(); {
		case r.err == io.EOF && r.pending():
			r.err = ErrUnfinished
		case r.err != nil:
		case len(r.line) > 0:
			r.field()
		case r.dispatch():
			return r.event(), nil
		}
	}
	return Event{}, r.err
}

// pending reports whether some of an event, or of a line, has come and not its end.
func (r *Reader) pending() bool {
	return len(r.line) > 0 || len(r.data) > 0 || r.typ != "" || r.id != r.lastID
}

// dispatch ends the event that is being read and reports whether it is one.
func (r *Reader) dispatch() bool {
	r.lastID = r.id
	if len(r.data) > 0 {
		return true
	}
	r.typ = ""
	return false
}

// LastID returns the id to resume from: the last one that came with, or before,
// an event that was complete, whether it had data or not. It is empty if there
// was none, or an empty one.
func (r *Reader) LastID() string { return r.lastID }

// Retry returns how long the stream wants its client to wait before it
// reconnects, and whether it said so.
func (r *Reader) Retry() (time.Duration, bool) { return r.retry, r.hasRetry }

func (r *Reader) event() Event {
	e := Event{ID: r.lastID, Type: r.typ, Data: r.data[:len(r.data)-1]}
	if e.Type == "" {
		e.Type = "message"
	}
	return e
}

// readLine reads one line into r.line, without its end. It waits for no byte
// behind that: the LF of a CRLF is skipped when the next line is read.
func (r *Reader) readLine() error {
	r.line = r.line[:0]
	for {
		chunk, err := r.chunk()
		if err != nil {
			return err
		}
		n := lineEnd(chunk)
		if n < 0 {
			n = len(chunk)
		}
		if len(r.line)+len(r.data)+n > MaxEvent {
			return ErrTooLarge
		}
		r.line = append(r.line, chunk[:n]...)
		if n < len(chunk) {
			r.skipLF = chunk[n] == '\r'
			_, _ = r.src.Discard(n + 1)
			r.decode()
			return nil
		}
		_, _ = r.src.Discard(n)
	}
}

// chunk returns what is buffered, at least one byte.
func (r *Reader) chunk() ([]byte, error) {
	b, err := r.src.Peek(1)
	if err == nil && r.skipLF {
		r.skipLF = false
		if b[0] == '\n' {
			_, _ = r.src.Discard(1)
			_, err = r.src.Peek(1)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.src.Peek(r.src.Buffered())
}

// decode makes the line what a decoder of UTF-8 makes of it.
func (r *Reader) decode() {
	if !r.begun {
		r.begun = true
		r.line = bytes.TrimPrefix(r.line, []byte("\uFEFF"))
	}
	if !utf8.Valid(r.line) {
		r.line = appendValid(nil, r.line)
	}
}

// field takes a line of an event. A comment is a field without a name.
func (r *Reader) field() {
	name, value, _ := bytes.Cut(r.line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "data":
		r.data = append(r.data, value...)
		r.data = append(r.data, '\n')
	case "event":
		r.typ = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.id = string(value)
		}
	case "retry":
		r.setRetry(value)
	}
}

// maxRetry is the longest time to wait that a time.Duration can tell.
const maxRetry = math.MaxInt64 / uint64(time.Millisecond)

func (r *Reader) setRetry(digits []byte) {
	var ms uint64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return
		}
		ms = min(10*ms+uint64(c-'0'), maxRetry)
	}
	if len(digits) > 0 {
		r.retry, r.hasRetry = time.Duration(ms)*time.Millisecond, true
	}
}

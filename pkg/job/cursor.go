package job

import (
	"errors"
	"strconv"
	"strings"
)

// Cursor is a place between two events of a job: just behind the event whose
// id it is. Clients treat its text as opaque: [A-Za-z0-9_-]{1,64}, which needs no
// CORS preflight in a Last-Event-ID header.
type Cursor struct {
	Seq uint64 // of the last event that was handled; 0: none was
	Place
}

// ErrCursor is the error of a text that is not a cursor, or of one that names no
// event of the job it was used on: too old, foreign, or from the future.
var ErrCursor = errors.New("cursor names no event of this job")

// maxCursor is the length of the longest cursor there is.
const maxCursor = 20 + 1 + 20 + 1 + 20

// Append appends the cursor's text, <seq>-<position>-<epoch>, to b.
func (c Cursor) Append(b []byte) []byte {
	b = strconv.AppendUint(b, c.Seq, 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, c.Position, 10)
	b = append(b, '-')
	return strconv.AppendUint(b, c.Epoch, 10)
}

// String returns the cursor's text.
func (c Cursor) String() string { return string(c.Append(make([]byte, 0, maxCursor))) }

// Start reports whether c is the place before a job's first event.
func (c Cursor) Start() bool { return c.Seq == 0 && c.Position == 0 }

// Behind reports whether c comes behind another place, in the order of the log: that of all
// jobs.
func (c Cursor) Behind(other Cursor) bool {
	return c.Position > other.Position || c.Position == other.Position && c.Seq > other.Seq
}

// ParseCursor reads a cursor's text. Only what String returns is accepted, so
// that one place has one name.
func ParseCursor(s string) (Cursor, error) {
	if len(s) > maxCursor {
		return Cursor{}, ErrCursor
	}
	seq, rest, ok1 := strings.Cut(s, "-")
	pos, epoch, ok2 := strings.Cut(rest, "-")
	var c Cursor
	var err1, err2, err3 error
	c.Seq, err1 = strconv.ParseUint(seq, 10, 64)
	c.Position, err2 = strconv.ParseUint(pos, 10, 64)
	c.Epoch, err3 = strconv.ParseUint(epoch, 10, 64)
	if !ok1 || !ok2 || errors.Join(err1, err2, err3) != nil || c.String() != s {
		return Cursor{}, ErrCursor
	}
	return c, nil
}

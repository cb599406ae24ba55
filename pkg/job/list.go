package job

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"
)

// Query says which jobs a list has, newest first. What is left out holds for any job.
type Query struct {
	Selector
	Statuses []Status  // any of these
	Since    time.Time // created then or later
	Before   time.Time // created earlier: of two spans that meet, a job is in one
	Limit    int
	After    ListCursor // older than the job it names; the zero value: from the newest on
}

// WithStatus reports whether the query asks for jobs of this status. A job whose
// status is not known is in no list.
func (q *Query) WithStatus(s Status) bool {
	return s != "" && (len(q.Statuses) == 0 || slices.Contains(q.Statuses, s))
}

// ListPage is a part of a list: not always as much as the limit, even if there is more.
type ListPage struct {
	Jobs []ListCursor
	Next ListCursor // where the next page begins; the zero value: there is none
}

// ListCursor is a job's place in every list: they are all in one order, of creation
// and then of ids. It stays where it is when the job is gone.
type ListCursor struct {
	Created int64 // Unix milliseconds
	ID      ID
}

// listCursorSize is that of a cursor in bytes, before they become text.
const listCursorSize = 8 + 16

// String returns the cursor's text, which clients treat as opaque; "" of the zero value.
func (c ListCursor) String() string {
	id, ok := c.ID.Bytes()
	if !ok {
		return ""
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, listCursorSize), uint64(c.Created))
	return base64.RawURLEncoding.EncodeToString(append(b, id[:]...))
}

// ParseListCursor reads a cursor's text; ErrCursor is its only error.
func ParseListCursor(s string) (ListCursor, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != listCursorSize {
		return ListCursor{}, ErrCursor
	}
	c := ListCursor{Created: int64(binary.BigEndian.Uint64(b)), ID: IDOf([16]byte(b[8:]))}
	if c.String() != s { // base64 skips line breaks
		return ListCursor{}, ErrCursor
	}
	return c, nil
}

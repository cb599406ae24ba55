package sse

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendEvent appends one event to b, whatever is in it: data is split into lines
// at CRLF, CR and LF alike, and what is not UTF-8 becomes U+FFFD. An event
// without data still has one empty line of it, as clients do not see it otherwise.
// The id comes last: some clients take note of it at once, and would take an event
// that is cut behind it for read.
//
// An id or event name with a CR, LF or NUL in it is left out: it would end its
// line and begin a field or an event of its writer's making, and a stream that is
// on its way has nobody to report an error to. So is an empty one: an empty id
// would make the client forget the place it resumes from.
func AppendEvent(b []byte, id, event string, data []byte) []byte {
	b = appendName(b, "event: ", event)
	for more := true; more; {
		var line []byte
		line, data, more = cutLine(data)
		b = append(b, "data: "...)
		b = appendValid(b, line)
		b = append(b, '\n')
	}
	b = appendName(b, "id: ", id)
	return append(b, '\n')
}

// AppendRetry appends the time after which a client reconnects. No blank line
// follows, for the reason given at Heartbeat: the field takes effect without one.
func AppendRetry(b []byte, d time.Duration) []byte {
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, max(0, d.Milliseconds()), 10)
	return append(b, '\n')
}

func appendName(b []byte, field, value string) []byte {
	if value == "" || strings.ContainsAny(value, "\r\n\x00") {
		return b
	}
	b = append(b, field...)
	b = appendValid(b, []byte(value))
	return append(b, '\n')
}

// cutLine returns data up to its first line break and what comes behind that;
// more is false if there is none.
func cutLine(data []byte) (line, rest []byte, more bool) {
	i := lineEnd(data)
	if i < 0 {
		return data, nil, false
	}
	rest = data[i+1:]
	if data[i] == '\r' {
		rest = bytes.TrimPrefix(rest, []byte{'\n'})
	}
	return data[:i], rest, true
}

// lineEnd returns where b's first line ends, or -1. Two searches for a byte are
// many times faster than one for either of two.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// appendValid appends s with each maximal part of a broken character replaced by
// one U+FFFD, as the WHATWG encoding standard decodes it. (The standard library
// replaces each byte, or each run of them.)
func appendValid(b, s []byte) []byte {
	if utf8.Valid(s) {
		return append(b, s...)
	}
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if r == utf8.RuneError && n == 1 {
			n = broken(s)
		}
		b = utf8.AppendRune(b, r)
		s = s[n:]
	}
	return b
}

// broken returns the length of the broken character that s begins with: as far
// as it could still have become a whole one.
func broken(s []byte) int {
	n := 1
	for n < len(s) && !utf8.FullRune(s[:n+1]) {
		n++
	}
	return n
}

package worker

import (
	"bytes"
	"errors"
	"io"
)

// eachLine calls f with each line of r as it comes, without its newline. A line
// longer than limit comes in pieces, cut between runes; more says that the line
// goes on, and the last piece of it may be empty. A piece is valid until f returns.
// No more than limit is in memory.
func eachLine(r io.Reader, limit int, f func(piece []byte, more bool) error) error {
	buf := make([]byte, 0, min(limit, 4<<10))
	inside := false
	each := func(piece []byte, more bool) error {
		inside = more
		return f(piece, more)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(2*cap(buf), limit)), buf...)
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		seen := len(buf)
		buf = buf[:seen+n]
		rest, ferr := complete(buf, seen, each)
		if ferr != nil {
			return ferr
		}
		if len(rest) == limit {
			cut := len(rest) - incomplete(rest)
			if ferr := each(rest[:cut], true); ferr != nil {
				return ferr
			}
			rest = rest[cut:]
		}
		buf = buf[:copy(buf, rest)]
		if err != nil {
			return lastLine(buf, inside, err, f)
		}
	}
}

// complete calls f with the lines that end in buf, of which the first seen bytes
// have no newline, and returns the rest.
func complete(buf []byte, seen int, f func([]byte, bool) error) ([]byte, error) {
	for {
		i := bytes.IndexByte(buf[seen:], '\n')
		if i < 0 {
			return buf, nil
		}
		if err := f(buf[:seen+i], false); err != nil {
			return nil, err
		}
		buf, seen = buf[seen+i+1:], 0
	}
}

// lastLine is the end of eachLine: the last line may lack its newline.
func lastLine(line []byte, inside bool, err error, f func([]byte, bool) error) error {
	if len(line) > 0 || inside {
		if ferr := f(line, false); ferr != nil {
			return ferr
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Package tape keeps the recent events of one job in memory, encoded as they go
// over the wire: one slice of bytes that all readers share. A reader is a place
// in it, so a thousand readers cost no copies, no queues and no encoding, and
// what one of them has not read yet is one write.
package tape

import (
	"bytes"
	"iter"
	"unsafe"

	"github.com/millstream/millstream/pkg/job"
)

// Block is a run of consecutive events as they stand on a stream. Its bytes are
// shared by all who read the job and never change.
type Block struct {
	Bytes []byte     // whole SSE frames of consecutive events
	Last  job.Cursor // id of the last one
	End   bool       // it is terminal
}

// Frame is one event of a Block. Its fields share the block's memory: to keep one
// of them for long is to keep the array of a whole tape.
type Frame struct {
	ID   string // the cursor behind the event
	Type string
	JSON []byte // the event object, on one line
}

// The parts of a frame: what is stored as one is sliced as one, without parsing. The
// order means nothing to a client that follows the standard. The id is the last as many
// take note of it when they come to its line: a frame that is cut before is asked for
// again.
const (
	typePart = "event: "
	dataPart = "\ndata: "
	idPart   = "\nid: "
	endPart  = "\n\n"
)

// AppendFrame appends the event to b as one SSE frame, whatever is in it: a line
// break, which would end the frame and begin one of the worker's making, becomes
// a space. JSON has line breaks only between its tokens, where a space means the
// same.
func AppendFrame(b []byte, e *job.Event) []byte {
	b = append(b, typePart...)
	at := len(b)
	b = append(b, e.Type...)
	oneLine(b[at:])
	b = append(b, dataPart...)
	at = len(b)
	b = e.AppendJSON(b)
	oneLine(b[at:])
	b = append(b, idPart...)
	b = e.Cursor().Append(b)
	return append(b, endPart...)
}

// oneLine makes one line of b.
func oneLine(b []byte) {
	blank(b, '\n')
	blank(b, '\r')
}

func blank(b []byte, c byte) {
	for i := bytes.IndexByte(b, c); i >= 0; i = bytes.IndexByte(b, c) {
		b[i] = ' '
		b = b[i+1:]
	}
}

// frameRoom is about what a frame takes beside its data.
const frameRoom = 256

// room is about the number of bytes that the events' frames take.
func room(events []job.Event) (n int) {
	for i := range events {
		n += frameRoom + len(events[i].Data)
	}
	return n
}

// Encode returns the events, which are consecutive, as a block.
func Encode(events ...job.Event) Block {
	if len(events) == 0 {
		return Block{}
	}
	b := make([]byte, 0, room(events))
	for i := range events {
		b = AppendFrame(b, &events[i])
	}
	last := &events[len(events)-1]
	return Block{Bytes: b, Last: last.Cursor(), End: last.Type.Terminal()}
}

// Events returns the events of the block, without copying them.
func (b Block) Events() iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		for rest := b.Bytes; len(rest) > 0; {
			f, n := cut(rest)
			if n == 0 || !yield(f) {
				return
			}
			rest = rest[n:]
		}
	}
}

// cut returns the frame that b begins with, and its length; 0 if there is none.
func cut(b []byte) (f Frame, n int) {
	typ, n := part(b, 0, typePart)
	data, n := part(b, n, dataPart)
	id, n := part(b, n, idPart)
	if n < 0 || !bytes.HasPrefix(b[n:], []byte(endPart)) {
		return Frame{}, 0
	}
	return Frame{ID: text(id), Type: text(typ), JSON: data}, n + len(endPart)
}

// part returns what stands behind prefix at b[from:], up to the end of the line,
// and where that is; -1 if it is not there.
func part(b []byte, from int, prefix string) ([]byte, int) {
	if from < 0 || len(b)-from < len(prefix) || string(b[from:from+len(prefix)]) != prefix {
		return nil, -1
	}
	from += len(prefix)
	n := bytes.IndexByte(b[from:], '\n')
	if n < 0 {
		return nil, -1
	}
	return b[from : from+n : from+n], from + n
}

// text returns b as a string without copying it: nobody writes to a block.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

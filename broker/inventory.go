package broker

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// The server hands out a million messages, one by one, in ten seconds; from its files they are
// read in two. But which of those that lie there it has, only the server knows: what expired,
// was replaced or was removed lies there for a while. So it is asked for the positions that it
// has, those are looked for in the files, and what is not found there, as it was written, the
// server has to hand out.

// scanOwn is scanArchive, of an archive in files that ends at last.
func (s *jetStream) scanOwn(ctx context.Context, im *image, last uint64, each func(stored)) error {
	v, ok, err := s.inventory(ctx, maxGone)
	switch {
	case err != nil:
		return err
	case !ok:
		return s.consumeHeads(ctx, 0, last, each)
	}
	missed, err := v.scanFiles(ctx, im, s.sound, each)
	if err != nil || len(missed) == 0 {
		return err
	}
	v, ok, err = s.inventory(ctx, maxGone)
	missed = slices.DeleteFunc(missed, func(p uint64) bool { return ok && !v.has(p) }) // it has gone meanwhile
	if err != nil || len(missed) == 0 {
		return err
	}
	return s.consumeHeads(ctx, missed[0], missed[len(missed)-1], func(m stored) {
		if _, ok := slices.BinarySearch(missed, m.position); ok {
			each(m)
		}
	})
}

// inventory is the positions that a stream has.
type inventory struct {
	next, last uint64   // from and up to where it may have any
	gone       []uint64 // between them, where it has none; in order
}

const (
	// maxGone is how many positions where a stream has nothing are asked for at the most: they
	// come in one message, and take a microsecond each, and ten bytes.
	maxGone = 2 << 20
	// gonePerMessage is how many of them take less time than the server does to hand out one message.
	gonePerMessage = 4
)

// inventory asks the server for that of the archive; ok is false if the positions where it has
// nothing are more than most.
func (s *jetStream) inventory(ctx context.Context, most int) (v inventory, ok bool, err error) {
	info, err := s.done.Info(ctx)
	if err == nil && info.State.NumDeleted > min(most, gonePerMessage*int(info.State.Msgs)) {
		return inventory{}, false, nil
	}
	if err == nil {
		info, err = s.done.Info(ctx, jetstream.WithDeletedDetails(true))
	}
	if err != nil {
		return inventory{}, false, unavailable(err)
	}
	st := info.State
	v = inventory{next: st.FirstSeq, last: st.LastSeq, gone: st.Deleted}
	return v, st.Msgs+uint64(len(st.Deleted)) == st.LastSeq+1-st.FirstSeq && slices.IsSorted(st.Deleted), nil
}

// take takes out position and all before it, and reports whether the stream has it. Those
// that it has before it go to missed.
func (v *inventory) take(position uint64, missed *[]uint64) bool {
	if position < v.next || position > v.last {
		return false
	}
	v.skip(position, missed)
	gone := v.passGone()
	v.next++
	return !gone
}

// skip takes out all before position, which go to missed if the stream has them.
func (v *inventory) skip(position uint64, missed *[]uint64) {
	for ; v.next < position; v.next++ {
		if !v.passGone() {
			*missed = append(*missed, v.next)
		}
	}
}

// passGone reports whether the stream has nothing at the next position.
func (v *inventory) passGone() bool {
	if len(v.gone) == 0 || v.gone[0] != v.next {
		return false
	}
	v.gone = v.gone[1:]
	return true
}

// has reports whether the stream has the position.
func (v *inventory) has(position uint64) bool {
	_, gone := slices.BinarySearch(v.gone, position)
	return !gone && v.next <= position && position <= v.last
}

// scanFiles calls each with the heads in the files of im that are in v, which is used up, and
// returns the positions of which there was nothing there. Of a sound stream all records are
// known to fit.
func (v *inventory) scanFiles(ctx context.Context, im *image, sound bool, each func(stored)) (missed []uint64, err error) {
	if err := im.open(); err != nil {
		return nil, err
	}
	var data []byte
	for _, n := range im.blocks {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		data, err = readInto(data, filepath.Join(im.msgs(), blockName(n)))
		if err != nil {
			continue // it has just been removed, or the server will say what is wrong with it
		}
		b := newBlock(im.name, n, data)
		b.records(func(r record) {
			if r.sequence&(erasedRecord|tombstone) != 0 || !sound && !b.fits(r) || !v.take(r.number(), &missed) {
				return
			}
			if name, ok := headName(b.subject(r)); ok {
				_, body := b.parts(r)
				each(stored{string(name), r.number(), body})
			}
		})
	}
	v.skip(v.last+1, &missed)
	return missed, nil
}

// headName returns the name of what lies under subject, if that is a head.
func headName(subject []byte) (name []byte, ok bool) {
	name, ok = bytes.CutPrefix(subject, []byte(donePrefix))
	return name, ok && bytes.IndexByte(name, '.') < 0
}

// readInto reads a file into data, or into a larger one if that is too small.
func readInto(data []byte, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return data, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return data, err
	}
	data = slices.Grow(data[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, data)
	return data, err
}

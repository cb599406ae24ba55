package hub

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// follower is a tape.Reader of many jobs: a place in the log, and where it stands on the tail
// if it does. Its cursor moves with the log, also past events of jobs that it does not follow.
type follower struct {
	hub    *Hub
	meant  job.Selector    // of any id
	named  map[job.ID]bool // jobs that are meant by their ids, and whether their end is yet to be read; nil: any
	unread int             // of these
	cursor job.Cursor      // up to here all was returned
	mark   uint64          // number of the next item on the tail
	placed bool            // mark is cursor's place
	merge  *merge          // what is read of the log; nil: nothing
	most   int             // events of a block; 0: any number
	looked time.Time       // for the last time
	ended  bool            // the last end was returned
	last   bool            // what is returned now is the last: the server stops
	closed bool
}

// lookEvery is how often a follower looks for more while there is: nobody sees a screen
// change faster, and a hundred of them, each of which every event of the log might wake,
// stay a small part of the work.
const lookEvery = 5 * time.Millisecond

// OpenMany returns a reader of the jobs that are selected, in the order of the log, which
// begins behind the cursor; the zero cursor: behind all there is now. If jobs are named it
// ends when all of these are over and read; any other never does. io.EOF: they are. Its
// blocks may end behind their last event, and are empty, with a Last, while the log is still
// being read. job.ErrCursor: the cursor names no place of the log, or one too far back.
//
// In place of a job whose events cannot be read, and of one that was erased, comes a
// stream.erased.
func (h *Hub) OpenMany(ctx context.Context, s job.Selector, after job.Cursor) (tape.Capped, error) {
	f := &follower{hub: h, meant: s, cursor: after}
	if after == (job.Cursor{}) {
		f.cursor = h.tail.head()
	} else if !h.log.Covers(after) {
		return nil, job.ErrCursor
	}
	if err := f.name(ctx, s.Jobs); err != nil {
		return nil, err
	}
	if f.done() && after != (job.Cursor{}) {
		return nil, io.EOF
	}
	if f.mark, f.placed = h.tail.seek(f.cursor); !f.placed && !f.takeUp() {
		if err := f.beginMerge(); err != nil {
			return nil, job.ErrCursor
		}
	}
	h.mu.Lock()
	h.followers++
	h.mu.Unlock()
	return f, nil
}

// name takes in the jobs that are named: to be read are those that live, and those whose
// end is behind the cursor.
func (f *follower) name(ctx context.Context, ids []job.ID) error {
	if len(ids) == 0 {
		return nil
	}
	f.named = make(map[job.ID]bool, len(ids))
	f.meant.Jobs = nil
	for _, id := range ids {
		unread, err := f.unreadOf(ctx, id)
		if err != nil {
			return err
		}
		if f.named[id] = unread; unread {
			f.unread++
		}
	}
	return nil
}

// unreadOf reports whether a job's end is yet to be read.
func (f *follower) unreadOf(ctx context.Context, id job.ID) (bool, error) {
	last, over := f.hub.changes.Last(id)
	if !over || last != f.cursor.Position {
		return !over || last > f.cursor.Position, nil
	}
	j, err := f.hub.log.Job(ctx, id) // the cursor may be among the events of its last message
	if errors.Is(err, job.ErrNotFound) || errors.Is(err, job.ErrDamaged) {
		return false, nil
	}
	return err == nil && j.Cursor.Behind(f.cursor), err
}

// follows reports whether a job's events are for this reader.
func (f *follower) follows(l *job.Labels) bool {
	if f.named != nil {
		if _, is := f.named[l.ID]; !is {
			return false
		}
	}
	return f.meant.Takes(l)
}

// read notes that an event was returned.
func (f *follower) read(id job.ID, t job.Type) {
	if (t.Terminal() || t == job.StreamErased) && f.named[id] {
		f.named[id] = false
		f.unread--
	}
}

// done reports whether there is nothing more to come.
func (f *follower) done() bool { return f.named != nil && f.unread == 0 }

// Next returns what comes next; see tape.Reader.
//
//	on the tail? ─────────────▶ return it   ▲
//	  │ no, and it reaches back here: wait ─┤
//	  ▼ it does not                         │
//	in the log, job by job ───▶ return it ──┘ up to where the tail was
func (f *follower) Next(ctx context.Context, idle <-chan time.Time) (tape.Block, error) {
	for !f.ended {
		if f.last {
			return tape.Block{}, job.ErrDraining
		}
		f.last = f.hub.stops()
		changed := f.hub.tail.changed() // before any look, as a reader of one job does
		b, more, err := f.look(ctx)
		switch {
		case err != nil:
			return tape.Block{}, err
		case len(b.Bytes) > 0:
			f.ended = b.End
			return b, nil
		case more:
			if f.merge != nil {
				return b, nil // it takes long: who waits shall see that we live
			}
			continue
		case f.done():
			return tape.Block{}, io.EOF
		}
		if fired, err := f.wait(ctx, changed, idle); fired || err != nil {
			return tape.Block{}, err
		}
	}
	return tape.Block{}, io.EOF
}

// wait waits until there may be more; fired: idle came first.
func (f *follower) wait(ctx context.Context, changed <-chan struct{}, idle <-chan time.Time) (fired bool, err error) {
	select {
	case <-changed:
	case <-idle:
		return true, nil
	case <-f.hub.quit:
		return false, job.ErrDraining
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	rest := lookEvery - time.Since(f.looked)
	if rest <= 0 {
		return false, nil
	}
	pause := time.NewTimer(rest)
	defer pause.Stop()
	select {
	case <-pause.C:
		return false, nil
	case <-f.hub.quit:
		return false, nil // with what there is now
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// look returns what there is now; more: it has not looked at all of it.
func (f *follower) look(ctx context.Context) (b tape.Block, more bool, err error) {
	if ctx.Err() != nil {
		return b, false, context.Cause(ctx)
	}
	f.looked = time.Now()
	if f.merge == nil {
		b, more, ok := f.lookInTail()
		if ok {
			return b, more, nil
		}
		if err := f.beginMerge(); err != nil {
			return b, false, err
		}
	}
	return f.lookInLog(ctx)
}

// lookInTail returns what the tail has; ok is false if it does not reach back so far.
func (f *follower) lookInTail() (b tape.Block, more, ok bool) {
	if !f.placed {
		f.mark, f.placed = f.hub.tail.seek(f.cursor)
	}
	if !f.placed {
		return b, false, false
	}
	from, n := f.cursor, 0 // which may be further than the tail has come
	next, at, more, ok := f.hub.tail.read(f.mark, func(i *item) bool {
		if f.follows(i.labels) && i.event.Cursor().Behind(from) && !f.hub.tail.hides(&i.event) {
			b.Bytes = tape.AppendFrame(b.Bytes, &i.event)
			f.read(i.event.Job, i.event.Type)
			n++
		}
		return f.room(n, len(b.Bytes)) && !f.done()
	})
	if !ok { // it was dropped, or the tail has jumped: maybe to where we are
		f.placed = false
		return f.lookInTail()
	}
	if f.mark = next; at.Behind(from) {
		f.cursor = at
	}
	return f.block(b.Bytes), more, true
}

// Cap says how many events a block has at most.
func (f *follower) Cap(events int) { f.most = events }

// room reports whether a block with so many events and bytes takes one more.
func (f *follower) room(events, bytes int) bool {
	return bytes < tape.MaxBlock && (f.most == 0 || events < f.most)
}

// block returns the block of these frames. What is returned ends behind them, and behind
// all that was passed over.
func (f *follower) block(frames []byte) tape.Block {
	return tape.Block{Bytes: frames, Last: f.cursor, End: len(frames) > 0 && f.done()}
}

// Cursor returns the place up to which all was returned.
func (f *follower) Cursor() job.Cursor { return f.cursor }

// Close ends the reader.
func (f *follower) Close() {
	if f.closed {
		return
	}
	f.closed = true
	f.leave()
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.followers--
}

// selector returns what the follower follows.
func (f *follower) selector() job.Selector {
	s := f.meant
	for id := range f.named {
		s.Jobs = append(s.Jobs, id)
	}
	slices.Sort(s.Jobs)
	return s
}

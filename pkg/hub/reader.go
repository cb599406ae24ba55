package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// reader is a tape.Reader: a cursor, and where it stands on the tape if it does.
type reader struct {
	hub    *Hub
	live   *live
	cursor job.Cursor
	mark   tape.Mark
	placed bool       // mark is cursor's place on the tape
	page   int        // bytes of the next read of the log
	first  tape.Block // what begin found
	ended  bool       // the terminal event was returned
	last   bool       // what is returned now is the last: the server stops
	closed bool
}

// begin finds the cursor's place. What it has to read of the log for that is
// kept for the first Next.
func (r *reader) begin(ctx context.Context) error {
	if r.seek() && (r.live.current.Load() || r.live.tape.Size() > 0) {
		return nil
	} // else the tape says nothing, not even that there is such a job
	var err error
	r.first, err = r.read(ctx)
	return err
}

// seek finds the cursor's place on the tape.
func (r *reader) seek() bool {
	if !r.placed {
		m, err := r.live.tape.Seek(r.cursor)
		r.mark, r.placed = m, err == nil
	}
	return r.placed
}

// Next returns the events behind those it returned last; see tape.Reader.
//
//	on the tape? ──▶ return them      ▲
//	  │ no: before it, or not current │
//	  ▼                               │
//	in the log?  ──▶ return them      │
//	  │ no                            │
//	  ▼                               │
//	over? ──▶ io.EOF      wait ───────┘
func (r *reader) Next(ctx context.Context, idle <-chan time.Time) (tape.Block, error) {
	if b := r.first; len(b.Bytes) > 0 {
		r.first, r.last = tape.Block{}, r.hub.stops()
		return r.advance(b), nil
	}
	for !r.ended {
		if r.last {
			return tape.Block{}, job.ErrDraining
		}
		r.last = r.hub.stops()
		changed := r.live.tape.Changed() // before any look, so that nothing comes unseen between look and wait
		b, err := r.look(ctx)
		if err != nil || len(b.Bytes) > 0 {
			return r.advance(b), err
		}
		select {
		case <-changed:
		case <-idle:
			return tape.Block{}, nil
		case <-r.hub.quit:
			return tape.Block{}, job.ErrDraining
		case <-ctx.Done():
			return tape.Block{}, context.Cause(ctx)
		}
	}
	return tape.Block{}, io.EOF
}

// look returns what is behind the cursor now; nothing and no error: wait.
func (r *reader) look(ctx context.Context) (tape.Block, error) {
	if r.seek() {
		b, next, err := r.live.tape.Read(r.mark)
		switch {
		case errors.Is(err, tape.ErrOvertaken):
			if r.placed = false; r.seek() {
				return r.look(ctx) // the tape has jumped to where we stand
			}
		case err != nil: // io.EOF
			return tape.Block{}, err
		case len(b.Bytes) > 0:
			r.mark = next
			return b, nil
		case r.live.current.Load(): // the tape has all there is
			return tape.Block{}, nil
		}
	}
	return r.lookInLog(ctx)
}

func (r *reader) lookInLog(ctx context.Context) (tape.Block, error) {
	b, err := r.read(ctx)
	if err != nil || len(b.Bytes) > 0 {
		return b, err
	}
	j, err := r.hub.log.Job(ctx, r.live.id)
	switch {
	case err != nil:
		return tape.Block{}, err
	case j.Cursor.Seq > r.cursor.Seq: // the answer we shared was asked for before we were
		return r.hub.readOne(ctx, r.live, r.cursor, r.page)
	case j.Status.Over():
		return tape.Block{}, io.EOF
	}
	return tape.Block{}, nil
}

// advance moves the cursor behind b.
func (r *reader) advance(b tape.Block) tape.Block {
	if len(b.Bytes) > 0 {
		r.cursor, r.ended = b.Last, b.End
		r.placed = r.placed && r.mark.Cursor() == b.Last
	}
	return b
}

// Cursor returns the id of the last event that Next returned.
func (r *reader) Cursor() job.Cursor { return r.cursor }

// Close ends the reader.
func (r *reader) Close() {
	if !r.closed {
		r.closed = true
		r.hub.leave(r.live)
	}
}

const (
	// firstPage is how much of the log is read before a reader gets its first event.
	firstPage = 16 << 10
	// growth is by how much each of its pages is larger than the one before, up to
	// maxPage: who reads on wants it all, soon.
	growth  = 4
	maxPage = tape.MaxBlock / 2 // with the rest of the last message it is a block
)

// read returns the next page of the log.
func (r *reader) read(ctx context.Context) (tape.Block, error) {
	b, err := r.hub.read(ctx, r.live, r.cursor, r.page)
	if len(b.Bytes) > 0 {
		r.page = min(growth*r.page, maxPage)
	}
	return b, err
}

// readTime bounds one read of the log: its answer is for many, so that no one
// reader's end ends it.
const readTime = 10 * time.Second

// read returns events of the log behind the cursor. Those who ask the same at the
// same time share the answer.
func (h *Hub) read(ctx context.Context, l *live, after job.Cursor, size int) (tape.Block, error) {
	answer := h.reading.DoChan(string(l.id)+" "+after.String(), func() (_ any, err error) {
		defer recovered(&err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		return h.readOne(ctx, l, after, size)
	})
	select {
	case a := <-answer:
		b, _ := a.Val.(tape.Block)
		return b, a.Err
	case <-ctx.Done():
		return tape.Block{}, context.Cause(ctx)
	}
}

// recovered makes a panic an error of those who asked. It comes in a goroutine that is
// nobody's request: there it would end the process, and every other stream.
func recovered(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("reading the log: panic: %v\n%s", v, debug.Stack())
	}
}

func (h *Hub) readOne(ctx context.Context, l *live, after job.Cursor, size int) (tape.Block, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return tape.Block{}, job.Problemf("rate-limited", "Too many read old events.")
	}
	events, err := h.log.History(ctx, l.id, after, size)
	if err != nil {
		return tape.Block{}, err
	}
	h.fill(l, events)
	return tape.Encode(events...), nil
}

// fill puts what was read of a job that gets no commits on its tape, for those
// who come next.
func (h *Hub) fill(l *live, events []job.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.current.Load() || h.jobs[l.id] != l {
		return
	}
	_ = l.tape.Append(events...) // if they are the next ones; others have no place there
	h.touch(l)
	h.evict()
}

package handlers

import (
	"context"
	"io"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// wholeLog has the events of all jobs in one order.
type wholeLog struct {
	position uint64
	events   []job.Event
	labels   []job.Labels
	grown    chan struct{}
}

func (l *wholeLog) add(j *job.Job, events []job.Event) {
	l.position++
	for _, e := range events {
		l.events, l.labels = append(l.events, e), append(l.labels, j.Labels())
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// ordered has a world keep its events in one order.
func (s *service) ordered() { s.log = &wholeLog{grown: make(chan struct{})} }

// OpenMany knows the cursors of its epoch, up to the last one.
func (w *world) OpenMany(_ context.Context, s job.Selector, after job.Cursor) (tape.Capped, error) {
	if err := w.call("OpenMany"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &manyReader{world: w, selector: s, cursor: after}
	switch {
	case after == (job.Cursor{}):
		r.cursor = job.Cursor{Place: job.Place{Epoch: epoch}}
		if n := len(w.log.events); n > 0 {
			r.cursor = w.log.events[n-1].Cursor()
		}
	case after.Epoch != epoch || after.Position > w.log.position:
		return nil, job.ErrCursor
	}
	if after != (job.Cursor{}) && r.over() {
		return nil, io.EOF
	}
	w.open++
	return r, nil
}

// Named knows all jobs that are there.
func (w *world) Named(s job.Selector) (ids []job.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range s.Jobs {
		if j := w.jobs[id]; j != nil {
			if labels := j.job.Labels(); s.Takes(&labels) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

type manyReader struct {
	world    *world
	selector job.Selector
	cursor   job.Cursor
}

func (r *manyReader) Next(ctx context.Context, idle <-chan time.Time) (tape.Block, error) {
	for {
		b, grown := r.look()
		switch {
		case len(b.Bytes) > 0:
			return b, nil
		case r.isOver():
			return b, io.EOF
		}
		select {
		case <-grown:
		case <-idle:
			return tape.Block{}, nil
		case <-r.world.quit:
			return tape.Block{}, job.ErrDraining
		case <-ctx.Done():
			return tape.Block{}, context.Cause(ctx)
		}
	}
}

func (r *manyReader) look() (b tape.Block, grown chan struct{}) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	l := r.world.log
	for i := range l.events {
		if e := &l.events[i]; e.Cursor().Behind(r.cursor) {
			r.cursor = e.Cursor()
			if r.selector.Takes(&l.labels[i]) {
				b.Bytes = tape.AppendFrame(b.Bytes, e)
			}
		}
	}
	b.Last = r.cursor
	return b, l.grown
}

func (r *manyReader) isOver() bool {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	return r.over()
}

// over is isOver with the lock held.
func (r *manyReader) over() bool {
	for _, id := range r.selector.Jobs {
		if j := &r.world.jobs[id].job; !j.Status.Over() || j.Cursor.Behind(r.cursor) {
			return false
		}
	}
	return len(r.selector.Jobs) > 0
}

func (r *manyReader) Cursor() job.Cursor { return r.cursor }

func (r *manyReader) Cap(int) {}

func (r *manyReader) Close() {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.world.open--
}

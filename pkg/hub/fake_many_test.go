package hub

import (
	"context"
	"slices"

	"github.com/millstream/millstream/pkg/job"
)

// Behind returns events of one job by their place in the log.
func (l *fakeLog) Behind(_ context.Context, id job.ID, at job.Cursor, _ int) ([]job.Event, error) {
	l.reads.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails[id]; err != nil {
		return nil, err
	}
	events := l.events[id]
	if events == nil {
		return nil, job.ErrNotFound
	}
	i := slices.IndexFunc(events, func(e job.Event) bool { return e.Cursor().Behind(at) })
	if i < 0 {
		return nil, nil
	}
	return slices.Clone(events[i:min(len(events), i+l.page)]), nil
}

func (l *fakeLog) Covers(c job.Cursor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.Epoch == 1 && c.Position <= l.position
}

func (l *fakeLog) Changed(s job.Selector, since uint64, most int) (ids []job.ID, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, j := range l.jobs {
		labels := j.Labels()
		if s.Takes(&labels) && j.Cursor.Position >= since && !j.Erased {
			ids = append(ids, id)
		}
	}
	return ids, len(ids) <= most
}

func (l *fakeLog) Last(id job.ID) (position uint64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.jobs[id]
	if j == nil {
		return 0, true
	}
	return j.Cursor.Position, j.Status.Over()
}

// all returns every event of the jobs that a selector takes, behind a place, in order of
// the log.
func (l *fakeLog) all(s job.Selector, at job.Cursor) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var events []job.Event
	for id, of := range l.events {
		labels := l.jobs[id].Labels()
		for _, e := range of {
			if s.Takes(&labels) && e.Cursor().Behind(at) {
				events = append(events, e)
			}
		}
	}
	slices.SortFunc(events, func(a, b job.Event) int {
		if b.Cursor().Behind(a.Cursor()) {
			return -1
		}
		return 1
	})
	for _, e := range events {
		ids = append(ids, string(e.Job)+" "+e.Cursor().String())
	}
	return ids
}

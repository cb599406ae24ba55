package torture

import (
	"fmt"
	"slices"
)

// whole is what an overseer was given of all jobs.
type whole struct {
	who    string
	events []event
	over   bool // it has read all there is
}

// whole returns what an overseer was given.
func (j *judge) whole(diary string) *whole {
	w := j.wholes[diary]
	if w == nil {
		w = &whole{who: diary}
		j.wholes[diary] = w
	}
	return w
}

// oversee takes an entry of an overseer.
func (j *judge) oversee(diary string, e *entry) {
	switch {
	case e.What == opened && e.Detail != "":
		j.v.Resumed++
	case e.What == got:
		j.v.Events++
	}
	j.whole(diary).take(e)
}

func (w *whole) take(e *entry) {
	switch e.What {
	case got:
		if ev, err := parseEvent(e.Event); err == nil {
			w.events = append(w.events, ev)
		}
	case told:
		w.over = true
	}
}

// overseen judges what the overseers were given: in the order of the log, and of each job that
// was accepted, and is not erased, all that the log has of it, once.
func (j *judge) overseen(list []*trial) {
	for _, w := range j.wholes {
		if !w.over {
			j.v.stuck("%s has not read all there is", w.who)
		}
		of := map[string][]event{}
		var at place
		for i := range w.events {
			e := &w.events[i]
			if e.Type == "stream.erased" {
				continue
			}
			of[e.Job] = append(of[e.Job], *e)
			next, err := placeOf(e.ID)
			if err != nil || !at.before(next) {
				j.v.reordered("%s was given %s behind %d-%d", w.who, e.ID, at.seq, at.position)
			}
			at = next
		}
		for _, t := range list {
			if t.accepted && t.erasing.IsZero() && isOver(t.state) {
				j.hold(w, t, of[t.id])
			}
		}
	}
}

// hold holds what an overseer was given of a job to the log.
func (j *judge) hold(w *whole, t *trial, events []event) {
	n := 0
	for i := range t.log.events {
		id := t.log.events[i].ID
		if n < len(events) && events[n].raw == t.log.events[i].raw {
			n++
			continue
		}
		if slices.ContainsFunc(events, func(e event) bool { return e.ID == id }) {
			j.v.reordered("%s: %s was given %s out of its place, or as something else", t.id, w.who, id)
		} else {
			j.v.lost("%s: %s was not given %s", t.id, w.who, id)
		}
		return
	}
	if n < len(events) {
		j.v.doubled("%s: %s was given %d events, where the log has %d", t.id, w.who, len(events), n)
	}
}

// place is where an event is in the log.
type place struct{ position, seq uint64 }

func placeOf(id string) (p place, err error) {
	var epoch uint64
	_, err = fmt.Sscanf(id, "%d-%d-%d", &p.seq, &p.position, &epoch)
	return p, err
}

func (p place) before(q place) bool {
	return p.position < q.position || p.position == q.position && p.seq < q.seq
}

package e2e

import (
	"fmt"
	"slices"
)

// record is what one reader of a job wrote down: each event it was given, in the
// order in which they came. Nothing in it is ever mended.
type record struct {
	job       string
	events    []event
	over      bool     // the server said that there is no more
	surprises []string // answers that no reader should ever get
}

// judge says what is wrong with the records of the accepted jobs' readers:
// nothing, if each reader saw its whole job, once and in order, to its one end,
// and all readers of a job saw the same.
func judge(accepted []string, records []record) (complaints []string) {
	first := map[string]record{}
	ids := map[string]string{}
	for _, r := range records {
		complaints = append(complaints, r.faults()...)
		if f, twice := first[r.job]; twice {
			complaints = append(complaints, f.differs(r)...)
			continue
		}
		first[r.job] = r
		for _, e := range r.events {
			if other, used := ids[e.ID]; used {
				complaints = append(complaints, fmt.Sprintf("id %s is used in %s and in %s", e.ID, other, r.job))
			}
			ids[e.ID] = r.job
		}
	}
	for _, id := range accepted {
		if _, read := first[id]; !read {
			complaints = append(complaints, id+" was accepted and is gone")
		}
	}
	return complaints
}

// faults says what is wrong with one record by itself.
func (r record) faults() (faults []string) {
	say := func(format string, args ...any) {
		faults = append(faults, r.job+": "+fmt.Sprintf(format, args...))
	}
	for i, e := range r.events {
		if e.Job != r.job {
			say("event %s of %s", e.ID, e.Job)
		}
		if e.Seq != uint64(i)+1 {
			say("seq %d where %d belongs", e.Seq, i+1)
		}
		if e.over() && i < len(r.events)-1 {
			say("%d events behind %s", len(r.events)-1-i, e.Type)
		}
	}
	if len(r.events) == 0 || !r.events[len(r.events)-1].over() || !r.over {
		say("no end after %d events", len(r.events))
	}
	return append(faults, r.surprises...)
}

// differs says where two records of one job are not the same.
func (r record) differs(other record) []string {
	if slices.EqualFunc(r.events, other.events, func(a, b event) bool { return a.raw == b.raw }) {
		return nil
	}
	return []string{fmt.Sprintf("%s: two readers saw %d and %d events, not the same", r.job, len(r.events), len(other.events))}
}

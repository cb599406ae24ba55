package index

import (
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Changed returns the jobs that have events at position since of the log or behind it, in
// no order; all false: there are more than most. It looks at every job there is,
// which takes tens of milliseconds for a million; a few that are named are looked up.
func (x *Index) Changed(s job.Selector, since uint64, most int) (ids []job.ID, all bool) {
	c := changes{since: since, now: time.Now().UnixMilli(), query: job.Query{Selector: s}}
	if len(s.Jobs) > 0 {
		x.changedOf(&c)
		return c.ids, true
	}
	for h, more := uint32(1), true; more; h += uint32(x.step) {
		if more = x.changedFrom(&c, h); len(c.ids) > most {
			return nil, false
		}
	}
	return c.ids, true
}

// Named returns those of the jobs that the selector names that are there, and are selected.
func (x *Index) Named(s job.Selector) []job.ID {
	c := changes{now: time.Now().UnixMilli(), query: job.Query{Selector: s}}
	x.changedOf(&c)
	return c.ids
}

// Last returns the position of a job's last event, and whether that is its end. What of a job
// that is not there is to come has come.
func (x *Index) Last(id job.ID) (position uint64, over bool) {
	key, ok := id.Bytes()
	x.mu.RLock()
	defer x.mu.RUnlock()
	h := x.byID[key]
	if !ok || h == 0 {
		return 0, true
	}
	r := x.records.at(h)
	return r.last, !r.placed || statuses[r.status].Over()
}

// changes are what Changed looks for, and has found.
type changes struct {
	query job.Query
	since uint64
	now   int64
	ids   []job.ID
}

// changedFrom looks at one step of the records, and reports whether there are more. What
// the texts of the query are is looked up anew each time, as in a list.
func (x *Index) changedFrom(c *changes, h uint32) (more bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f, some := x.filter(&c.query)
	end := min(h+uint32(x.step), x.records.used)
	for ; some && h < end; h++ {
		c.look(&f, x.records.at(h))
	}
	return some && end < x.records.used
}

// changedOf looks at the jobs that are named.
func (x *Index) changedOf(c *changes) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f, some := x.filter(&c.query)
	for key := range f.jobs {
		if h := x.byID[key]; some && h != 0 {
			c.look(&f, x.records.at(h))
		}
	}
}

func (c *changes) look(f *filter, r *record) {
	if r.placed && r.last >= c.since && f.takes(r) && !r.expired(c.now) {
		c.ids = append(c.ids, job.IDOf(r.id))
	}
}

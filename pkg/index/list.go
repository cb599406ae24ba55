package index

import (
	"math"
	"slices"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// maxLooks is how many jobs a page looks at: some tens of milliseconds. Who asks for
// what hardly any job is gets a page that is not full, and goes on.
const maxLooks = 1_000_000

// List returns the newest of the jobs that the query asks for. A job that is there
// and fits as long as the pages of a list are read is on one of them, whatever
// becomes of others meanwhile; one that changes may be on none.
func (x *Index) List(q job.Query) job.ListPage {
	s := newScan(&q)
	for looks := 0; !s.over && looks < x.most; looks += x.step {
		x.look(s)
	}
	return s.result()
}

// scan is a walk through the jobs, from the newest on.
type scan struct {
	query      *job.Query
	at         place // from here on all were looked at
	since, now int64
	page       job.ListPage
	over       bool // the page is complete
	end        bool // and nothing follows
}

func newScan(q *job.Query) *scan {
	return &scan{query: q, at: begin(q), since: ceil(q.Since), now: time.Now().UnixMilli()}
}

// result returns the page, as far as it has come.
func (s *scan) result() job.ListPage {
	if !s.end {
		s.page.Next = s.at.cursor()
	}
	return s.page
}

// begin returns the place before which the jobs are that a query asks for.
func begin(q *job.Query) place {
	p := place{created: math.MaxInt64}
	if !q.Before.IsZero() {
		p.created = ceil(q.Before)
	}
	if id, ok := q.After.ID.Bytes(); ok {
		if after := (place{q.After.Created, id}); compare(after, p) < 0 {
			return after
		}
	}
	return p
}

// ceil returns the first millisecond that is not before t; that of the zero time is
// before all.
func ceil(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// look goes one step on. What the texts of the query are is looked up anew each time,
// as a handle may be another text's by then.
func (x *Index) look(s *scan) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	f, some := x.filter(s.query)
	if !some {
		s.over, s.end = true, true
		return
	}
	n := 0
	for h := range x.order.below(s.at) {
		r := x.records.at(h)
		if r.created < s.since {
			break
		}
		if f.takes(r) && !r.expired(s.now) && !s.add(r) {
			return
		}
		s.at = r.place()
		if n++; n == x.step {
			return
		}
	}
	s.over, s.end = true, true
}

// add puts a job on the page, unless that is full: then there is a next one.
func (s *scan) add(r *record) (added bool) {
	if len(s.page.Jobs) == s.query.Limit {
		s.over = true
		return false
	}
	s.page.Jobs = append(s.page.Jobs, r.place().cursor())
	return true
}

// filter is a query with the handles of its texts.
type filter struct {
	statuses uint8    // a bit each
	kinds    []uint32 // none: any
	owner    uint32   // 0: any
	batch    uint32   // 0: any
	tags     []uint32
	sets     *sets
	jobs     map[[16]byte]bool // nil: any
}

// filter returns the filter of a query; some is false if no job can pass it.
func (x *Index) filter(q *job.Query) (f filter, some bool) {
	f.sets = &x.tags
	for s := range statuses {
		if x.counts[s] > 0 && q.WithStatus(statuses[s]) {
			f.statuses |= 1 << s
		}
	}
	var owned, inBatch bool
	f.owner, owned = x.owners.find(q.Owner)
	f.batch, inBatch = x.batches.find(q.Batch)
	f.kinds = findAll(&x.kinds, q.Kinds)
	f.tags = findAll(&x.tags.tags, q.Tags)
	f.jobs = keysOf(q.Jobs)
	some = f.statuses != 0 && owned && inBatch && len(f.tags) == len(q.Tags) && (len(q.Kinds) == 0 || len(f.kinds) > 0)
	return f, some
}

// keysOf returns the ids as records have them; nil: none are named.
func keysOf(ids []job.ID) map[[16]byte]bool {
	if len(ids) == 0 {
		return nil
	}
	keys := make(map[[16]byte]bool, len(ids))
	for _, id := range ids {
		if key, ok := id.Bytes(); ok {
			keys[key] = true
		}
	}
	return keys
}

// findAll returns the handles of those of the texts that some job has.
func findAll(p *pool, texts []string) (handles []uint32) {
	for _, text := range texts {
		if h, ok := p.find(text); ok {
			handles = append(handles, h)
		}
	}
	return handles
}

// takes reports whether a job passes.
func (f *filter) takes(r *record) bool {
	return f.statuses&(1<<r.status) != 0 &&
		(len(f.kinds) == 0 || slices.Contains(f.kinds, r.kind)) &&
		(f.owner == 0 || f.owner == r.owner) &&
		(f.batch == 0 || f.batch == r.batch) &&
		(len(f.tags) == 0 || f.sets.has(r.tags, f.tags)) &&
		(f.jobs == nil || f.jobs[r.id])
}

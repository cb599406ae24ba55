package torture

import (
	"maps"
	"slices"
)

// group is all that is known of one batch.
type group struct {
	size   int             // how many jobs it should have
	jobs   map[string]bool // that somebody was told of, or that the audit found
	listed map[string]bool // by the audit
	whole  bool            // the audit has seen all of it
}

func (j *judge) group(id string) *group {
	g := j.groups[id]
	if g == nil {
		g = &group{jobs: map[string]bool{}, listed: map[string]bool{}}
		j.groups[id] = g
	}
	return g
}

// take takes what the audit found.
func (g *group) take(e *entry) {
	if e.What == listed {
		g.whole = true
		return
	}
	g.jobs[e.Job], g.listed[e.Job] = true, true
}

// acceptIn takes the batch that an accepted job is in, if it is in one.
func (j *judge) acceptIn(t *trial, e *entry) {
	if t.batch != "" && t.batch != e.Batch {
		j.v.doubled("%s was told in the batch %s, and in %q", t.id, t.batch, e.Batch)
	}
	t.batch = e.Batch
	if e.Batch == "" {
		return
	}
	g := j.group(e.Batch)
	g.size, g.jobs[t.id] = e.Jobs, true
	if e.Under == "" {
		return
	}
	if other := j.under[e.Under]; other != "" && other != e.Batch {
		j.v.doubled("the key %s is the batches %s and %s", e.Under, other, e.Batch)
	}
	j.under[e.Under] = e.Batch
}

// tryGroups judges the batches: each has no more jobs than were submitted, and its list has
// all of them that there are.
func (j *judge) tryGroups() {
	for _, id := range slices.Sorted(maps.Keys(j.groups)) {
		g := j.groups[id]
		if len(g.jobs) > g.size {
			j.v.doubled("the batch %s has %d jobs, and %d were submitted: %v", id, len(g.jobs), g.size, slices.Sorted(maps.Keys(g.jobs)))
		}
		for _, of := range slices.Sorted(maps.Keys(g.jobs)) {
			switch t := j.job(of); {
			case g.whole && !g.listed[of] && t.state != "" && t.erasing.IsZero():
				j.v.lost("%s is not in the list of its batch %s", of, id)
			case g.listed[of] && !t.erased.IsZero():
				j.v.zombie("%s was erased, and is in the list of its batch %s", of, id)
			}
		}
	}
}

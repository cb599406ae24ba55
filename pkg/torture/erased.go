package torture

import (
	"net/http"
	"slices"
)

// denials sees to it that nobody is told that a job is not there before somebody erases it.
func (j *judge) denials(t *trial) {
	for i := range t.denied {
		if e := &t.denied[i]; t.erasing.IsZero() || e.At.Before(t.erasing) {
			j.v.lost("%s: somebody was told at %s that it is not there", t.id, e.At.Format(clock))
		}
	}
}

// erasure judges a job that was erased: who asks for it behind that is answered that there
// is none. Who was reading has what it was given in order, and is told as well.
func (j *judge) erasure(t *trial) bool {
	if t.erasing.IsZero() || t.erased.IsZero() && t.state != "" {
		return false
	}
	j.v.Erased++
	if t.state != "" {
		j.v.zombie("%s was erased, and is %s", t.id, t.state)
	}
	j.seen(t)
	for i := range t.probes {
		j.probe(t, &t.probes[i])
	}
	for _, r := range t.readings {
		j.order(t, r)
		if !r.over && !r.gone {
			j.v.stuck("%s: %s was not told that it is erased", t.id, r.who)
		}
	}
	for _, a := range slices.Concat(t.watches, t.fetches) {
		knows := func(e entry) bool { return isOver(e.State) || e.What == fetched }
		if !a.gone && !slices.ContainsFunc(a.answers, knows) {
			j.v.stuck("%s: %s was not told that it is erased", t.id, a.who)
		}
	}
	return true
}

// seen looks for answers to who asked when nothing was to be seen any more.
func (j *judge) seen(t *trial) {
	if t.erased.IsZero() {
		return
	}
	for i := range t.shown {
		if e := &t.shown[i]; e.Sent.After(t.erased) {
			j.v.zombie("%s was erased at %s, and was shown (%d) to who asked at %s", t.id, t.erased.Format(clock), e.Status, e.Sent.Format(clock))
		}
	}
	for _, r := range t.readings {
		if r.given.After(t.erased) {
			j.v.zombie("%s was erased at %s, and %s was given events that it asked for at %s", t.id, t.erased.Format(clock), r.who, r.given.Format(clock))
		}
	}
}

func (j *judge) probe(t *trial, e *entry) {
	switch {
	case e.Status == http.StatusNotFound:
	case e.Key != "":
		j.v.doubled("%s was erased, and its key %s again was answered %d", t.id, e.Key, e.Status)
	default:
		j.v.zombie("%s was erased, and %s was answered %d", t.id, e.By, e.Status)
	}
}

// hear judges what the work says that it was given: what was submitted with the job, or
// with the one that it is a retry of.
func (j *judge) hear(t *trial) {
	want := t.key
	if first := j.jobs[t.of]; t.of != "" && first != nil {
		want = first.key
	}
	for i := range t.heard {
		e := &t.heard[i]
		if t.of == "" {
			j.key(e)
		}
		if t.accepted && e.Key != want {
			j.v.lost("%s: its work was given the input of the key %q, and not of %q", t.id, e.Key, want)
		}
	}
}

// punctuality sees to it that a job with a delay does not begin before its time.
func (j *judge) punctuality(t *trial) {
	for _, a := range attempts(t.log.events) {
		if a.began.Before(t.due) {
			j.v.reordered("%s began at %s, and was not to begin before %s", t.id, a.began.Format(clock), t.due.Format(clock))
		}
	}
}

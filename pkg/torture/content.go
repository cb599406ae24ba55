package torture

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// attempt is one attempt at a job, as the log has it.
type attempt struct {
	began  time.Time
	text   strings.Builder // of its output
	events []said          // of its own
	log    []string        // lines of standard error
	end    *event          // of the attempt or the job; nil: there is none
}

// attempts cuts a log into the attempts that there were.
func attempts(events []event) (list []*attempt) {
	var now *attempt
	for i := range events {
		e := &events[i]
		switch {
		case e.Type == "job.running":
			now = &attempt{began: e.Time}
			list = append(list, now)
		case now == nil:
		case e.Type == "job.queued", e.over():
			now.end = e
		default:
			now.hear(e)
		}
	}
	return list
}

func (a *attempt) hear(e *event) {
	a.text.WriteString(e.chunk())
	if s, ok := e.saidBy(); ok {
		a.events = append(a.events, s)
	}
	var d struct{ Stream, Line string }
	if e.Type == "job.log" && json.Unmarshal(e.Data, &d) == nil && d.Stream == "stderr" {
		a.log = append(a.log, d.Line)
	}
}

// runs returns who speaks in the attempt.
func (a *attempt) runs() map[string]bool {
	runs := map[string]bool{}
	for _, s := range append(linesSaid(a.text.String()), a.events...) {
		runs[s.Run] = true
	}
	for _, line := range a.log {
		run, _, _ := strings.Cut(line, " ")
		runs[run] = true
	}
	if s, ok := a.result(); ok {
		runs[s.Run] = true
	}
	return runs
}

// result returns what a pull worker said at its end.
func (a *attempt) result() (s said, ok bool) {
	var d struct{ Result said }
	ok = a.end != nil && a.end.Type == "job.succeeded" && json.Unmarshal(a.end.Data, &d) == nil && d.Result.Run != ""
	return d.Result, ok
}

// content judges a job by what its work says of itself.
func (j *judge) content(t *trial) {
	list := attempts(t.log.events)
	j.zombies(t, list)
	j.reports(t, list)
	if len(list) == 0 {
		return
	}
	last := list[len(list)-1]
	if last.end == nil || last.end.Type != "job.succeeded" {
		return
	}
	switch t.kind {
	case kindLines, kindFails, kindDeaf:
		j.complete(t, linesSaid(last.text.String()))
		var d struct{ Result string }
		if json.Unmarshal(last.end.Data, &d) != nil || d.Result != last.text.String() {
			j.v.lost("%s: its result is %q, and its output %q", t.id, d.Result, last.text.String())
		}
	case kindTokens, kindPull:
		j.complete(t, last.events)
	case kindOnce:
		var d struct{ Result string }
		_ = json.Unmarshal(last.end.Data, &d)
		if run, ok := strings.CutPrefix(d.Result, onceDone); !ok || !slices.Contains(t.runs, strings.TrimSpace(run)) {
			j.v.lost("%s: its result is %q, which is no answer of the upstream's to it", t.id, d.Result)
		}
	}
}

// zombies sees to it that in each attempt one run speaks, which never speaks in a
// later one.
func (j *judge) zombies(t *trial, list []*attempt) {
	earlier := map[string]int{}
	for n, a := range list {
		runs := a.runs()
		for run := range runs {
			if m, spoke := earlier[run]; spoke {
				j.v.zombie("%s: the run %s of attempt %d speaks in attempt %d", t.id, run, m+1, n+1)
			}
			earlier[run] = n
		}
		if len(runs) > 1 {
			j.v.zombie("%s: %d runs speak in attempt %d", t.id, len(runs), n+1)
		}
	}
}

// complete judges the whole of what an attempt said that succeeded: all steps, once and
// in order.
func (j *judge) complete(t *trial, list []said) {
	seen := map[said]bool{}
	there := map[int]bool{}
	highest, of := 0, 0
	for _, s := range list {
		if s.Of == 0 {
			continue
		}
		switch {
		case seen[s]:
			j.v.doubled("%s: step %d of %d is there twice", t.id, s.N, s.Of)
		case s.N < highest:
			j.v.reordered("%s: step %d of %d is behind step %d", t.id, s.N, s.Of, highest)
		}
		seen[s], there[s.N] = true, true
		highest, of = max(highest, s.N), s.Of
	}
	if of == 0 || len(there) < of {
		j.v.lost("%s: it succeeded with %d of %d steps", t.id, len(there), of)
	}
}

// reports sees to it that what workers were told is stored is there.
func (j *judge) reports(t *trial, list []*attempt) {
	there := map[said]bool{}
	for _, a := range list {
		for _, s := range a.events {
			there[s] = true
		}
		if s, ok := a.result(); ok {
			there[s] = true
		}
	}
	for _, r := range t.reports {
		late := r.Kind == lastWord && t.state == "canceled" // and told so
		if s := *r.Said; !there[s] && !late {
			j.v.lost("%s: %s %d of %s was acknowledged at %s and is not there", t.id, r.Kind, s.N, s.Run, r.At.Format(clock))
		}
	}
}

// redelivery is how long after the end of a lease its job may wait for the queue.
const redelivery = 2 * time.Second

// lateness judges how soon a worker that was gone was missed.
func (j *judge) lateness(t *trial) {
	for _, a := range attempts(t.log.events) {
		if a.end == nil || a.end.Type != "job.queued" || a.end.reason() != "lease-lost" {
			continue
		}
		due := first(j.starts, first(j.deaths, a.began)) // who starts knows that what ran is over
		if t.kind == kindPull {
			due = j.expiry(t, a)
		}
		if late := a.end.Time.Sub(due); !due.IsZero() && late > redelivery {
			j.v.late("%s: missed %s after it was to be missed, at %s", t.id, late, due.Format(clock))
		}
	}
}

// first returns the first of some times in order that is behind another; zero: none is.
func first(times []time.Time, behind time.Time) time.Time {
	for _, at := range times {
		if at.After(behind) {
			return at
		}
	}
	return time.Time{}
}

// expiry returns when the lease of an attempt was over: a lease's time behind the
// worker's last sign of life, or behind the start of a server that had to wait for one.
func (j *judge) expiry(t *trial, a *attempt) time.Time {
	end := a.end.Time
	heard := a.began
	for _, s := range t.signs {
		if s.At.After(heard) && s.At.Before(end) {
			heard = s.At
		}
	}
	for _, at := range j.starts {
		if at.After(heard) && at.Before(end) {
			heard = at
		}
	}
	due := heard.Add(leaseTime)
	for _, o := range j.outages {
		if o.to.After(heard) && o.from.Before(end) {
			due = due.Add(o.to.Sub(o.from))
		}
	}
	return due
}

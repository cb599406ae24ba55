package torture

import (
	"slices"
	"strings"
	"time"
)

// Judge reads the diaries in a directory, and nothing else, and says what is wrong.
func Judge(dir string) (*Verdict, error) {
	j := &judge{v: &Verdict{Faults: map[string]int{}}, jobs: map[string]*trial{}, keys: map[string]string{}, ids: map[string]string{}, reading: map[string]*reading{}, account: map[string]*account{}, groups: map[string]*group{}, wholes: map[string]*whole{}, under: map[string]string{}}
	if err := eachEntry(dir, "*", j.read); err != nil {
		return nil, err
	}
	list := j.sorted()
	for _, t := range list {
		j.hear(t)
	}
	for _, t := range list {
		if t.accepted {
			j.try(t)
		}
	}
	j.tryGroups()
	j.overseen(list)
	return j.v, nil
}

type judge struct {
	v    *Verdict
	jobs map[string]*trial // by id
	keys map[string]string // the job of each key
	ids  map[string]string // what each event id stands for

	groups map[string]*group // by the ids of the batches
	under  map[string]string // the batch of each key

	wholes  map[string]*whole   // of each overseer
	reading map[string]*reading // the last of each reader
	account map[string]*account // the last of each watcher and fetcher
	starts  []time.Time         // when a server was ready
	deaths  []time.Time         // when one ended
	outages []outage
}

func (j *judge) job(id string) *trial {
	t := j.jobs[id]
	if t == nil {
		t = &trial{id: id, log: reading{who: "the log"}}
		j.jobs[id] = t
	}
	return t
}

// sorted returns the jobs that anybody came across, in the order of their ids: that of their
// submits.
func (j *judge) sorted() (list []*trial) {
	for _, t := range j.jobs {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b *trial) int { return strings.Compare(a.id, b.id) })
	return list
}

// read takes one entry of a diary.
func (j *judge) read(diary string, e *entry) {
	sort, _, _ := strings.Cut(diary, "-")
	switch {
	case e.What == surprise:
		j.v.surprise("%s, %s: %s %s", diary, e.At.Format(clock), e.Job, e.Detail)
	case sort == "overseer":
		j.oversee(diary, e)
	case e.What == got && sort == "audit":
		t := j.job(e.Job)
		t.log.take(e)
	case e.What == got:
		j.v.Events++
		j.reading[diary].take(e)
	default:
		j.note(diary, e)
	}
}

const clock = "15:04:05.000"

func (r *reading) take(e *entry) {
	ev, err := parseEvent(e.Event)
	if err == nil {
		r.events = append(r.events, ev)
		r.given = r.asked
	}
}

// note takes an entry that is no event.
func (j *judge) note(diary string, e *entry) {
	switch e.What {
	case accepted:
		j.accept(e)
	case canceled:
		t := j.job(e.Job)
		t.shown = append(t.shown, *e)
		t.canceled = t.canceled || e.State == "canceled"
		t.asked = t.asked || e.State == "running"
	case follows:
		r := &reading{who: diary}
		j.reading[diary] = r
		t := j.job(e.Job)
		t.readings = append(t.readings, r)
	case opened:
		j.open(diary, e)
	case told:
		j.reading[diary].over = true
	case has:
		t := j.job(e.Job)
		t.state, t.foundAs, t.foundIn = e.State, e.Kind, e.Batch
	case lists, listed:
		j.group(e.Batch).take(e)
	case asked:
		j.job(e.Job).heard = append(j.job(e.Job).heard, *e)
		if e.Kind == kindOnce {
			t := j.job(e.Job)
			t.runs = append(t.runs, e.Run)
		}
	case delivered:
		t := j.job(e.Job)
		t.deliveries = append(t.deliveries, *e)
	case leased:
		t := j.job(e.Job)
		t.heard = append(t.heard, *e)
		t.signs = append(t.signs, *e)
	case reported:
		t := j.job(e.Job)
		t.signs, t.reports = append(t.signs, *e), append(t.reports, *e)
	case ready:
		j.starts = append(j.starts, e.At)
	case died:
		j.deaths = append(j.deaths, e.At)
	case fault:
		j.fault(e)
	default:
		j.noteSight(diary, e)
	}
}

// noteSight takes an entry of who looks at a job in another way than by its events.
func (j *judge) noteSight(diary string, e *entry) {
	t := j.job(e.Job)
	switch e.What {
	case watches, fetches:
		a := &account{who: diary}
		j.account[diary] = a
		if e.What == watches {
			t.watches = append(t.watches, a)
		} else {
			t.fetches = append(t.fetches, a)
		}
	case saw, piece, fetched:
		j.account[diary].answers = append(j.account[diary].answers, *e)
		t.shown = append(t.shown, *e)
	case missing:
		j.deny(diary, e)
	case erasing:
		t.erasing = e.At
	case erased:
		t.erased = e.At
	case probed:
		t.probes = append(t.probes, *e)
	}
}

// deny takes an answer that there is no such job.
func (j *judge) deny(diary string, e *entry) {
	t := j.job(e.Job)
	t.denied = append(t.denied, *e)
	if r := j.reading[diary]; r != nil {
		r.gone = true
	}
	if a := j.account[diary]; a != nil {
		a.gone = true
	}
}

// open takes the beginning of an answer with events. One by SSE may have none, of a job
// that is not there: it has no other word for a server that cannot look. GraphQL begins before
// it has looked.
func (j *judge) open(diary string, e *entry) {
	if e.Detail != "" {
		j.v.Resumed++
	}
	if r := j.reading[diary]; r != nil {
		r.asked = e.Sent
	}
	if e.Status/100 == 2 && e.By != "sse" && e.By != submitWay && !strings.HasPrefix(e.By, "graphql") {
		j.job(e.Job).shown = append(j.job(e.Job).shown, *e)
	}
}

func (j *judge) accept(e *entry) {
	t := j.job(e.Job)
	t.kind, t.of, t.hooked = e.Kind, e.Of, t.hooked || e.Hook
	j.acceptIn(t, e)
	if e.Key != "" {
		t.key = e.Key
	}
	if due := e.Sent.Truncate(time.Millisecond).Add(e.For); e.For > 0 && (t.due.IsZero() || due.Before(t.due)) {
		t.due = due // the server's times have no more than milliseconds
	}
	if !t.accepted {
		t.accepted = true
		j.v.Accepted++
	}
	j.key(e)
}

// key sees to it that a key is one job, whoever comes across it: a submitter that was told,
// or the work itself, of a job that nobody was told of.
func (j *judge) key(e *entry) {
	if e.Key == "" {
		return
	}
	if other := j.keys[e.Key]; other != "" && other != e.Job {
		j.v.doubled("the key %s is %s and %s", e.Key, other, e.Job)
	}
	j.keys[e.Key] = e.Job
}

func (j *judge) fault(e *entry) {
	j.v.Faults[e.Kind]++
	switch e.Kind {
	case kill, killAcked, stop, term, disk:
		j.outages = append(j.outages, outage{e.At, e.At.Add(e.For)})
	}
}

// try judges one job.
func (j *judge) try(t *trial) {
	j.denials(t)
	if len(t.runs) > 1 {
		j.v.doubled("%s: the upstream that must be asked once was asked %d times", t.id, len(t.runs))
	}
	if j.erasure(t) {
		return
	}
	switch t.state {
	case "":
		j.v.lost("%s was accepted and is gone", t.id)
		return
	case "queued", "running":
		j.v.stuck("%s is %s", t.id, t.state)
	case "succeeded", "failed", "canceled":
		j.v.Ended++
		t.log.over = true
	default:
		j.v.lost("%s cannot be read", t.id)
		return
	}
	if t.canceled && t.state != "canceled" {
		j.v.lost("%s was canceled, and is %s", t.id, t.state)
	}
	if t.kind != t.foundAs {
		j.v.lost("%s was submitted as %s, and is %s", t.id, t.kind, t.foundAs)
	}
	if t.batch != t.foundIn {
		j.v.lost("%s was submitted in the batch %q, and is in %q", t.id, t.batch, t.foundIn)
	}
	j.sequence(t, &t.log)
	j.states(t)
	j.punctuality(t)
	for _, r := range t.readings {
		j.sequence(t, r)
		j.compare(t, r)
	}
	for _, w := range t.watches {
		j.sights(t, w)
	}
	for _, f := range t.fetches {
		j.result(t, f)
	}
	j.content(t)
	j.delivery(t)
	j.lateness(t)
}

// sequence judges what one reader was given by itself: each event of the job once, in
// order, to its one end.
func (j *judge) sequence(t *trial, r *reading) {
	end := j.order(t, r)
	switch {
	case r.over && end == "":
		j.v.lost("%s: %s was given no end, behind %d events", t.id, r.who, len(r.events))
	case !r.over && r != &t.log:
		j.v.stuck("%s: %s was not told that it is over, behind %d events", t.id, r.who, len(r.events))
	}
}

// order judges the events by themselves, and returns the end, if there is one.
func (j *judge) order(t *trial, r *reading) (end string) {
	seen := map[uint64]bool{}
	var highest uint64
	for i := range r.events {
		e := &r.events[i]
		switch {
		case e.Type == "stream.reset":
			j.v.lost("%s: %s was told to start over, behind %d events (%s)", t.id, r.who, i, e.reason())
			return "" // what follows begins again
		case e.Job != t.id:
			j.v.surprise("%s: %s was given an event of %s", t.id, r.who, e.Job)
		case seen[e.Seq]:
			j.v.doubled("%s: %s was given %d twice", t.id, r.who, e.Seq)
		case end != "":
			j.v.doubled("%s: %s was given a %s behind the end, %s", t.id, r.who, e.Type, end)
		case e.Seq < highest:
			j.v.reordered("%s: %s was given %d behind %d", t.id, r.who, e.Seq, highest)
		}
		seen[e.Seq], highest = true, max(highest, e.Seq)
		if e.over() {
			end = e.Type
		}
		j.identify(t, e)
	}
	if holes := highest - uint64(len(seen)); holes > 0 && highest > uint64(len(seen)) {
		j.v.lost("%s: %s was given %d events up to %d", t.id, r.who, len(seen), highest)
	}
	return end
}

// identify sees to it that an id is one event for ever.
func (j *judge) identify(t *trial, e *event) {
	what := t.id + " " + e.raw
	if other, used := j.ids[e.ID]; used && other != what {
		j.v.doubled("the id %s is two events: %s and %s", e.ID, other, what)
	}
	j.ids[e.ID] = what
}

// compare judges a reader by the log: what it was given must be there, and the other
// way round.
func (j *judge) compare(t *trial, r *reading) {
	kept := map[uint64]string{}
	for i := range t.log.events {
		kept[t.log.events[i].Seq] = t.log.events[i].raw
	}
	for i := range r.events {
		switch e := &r.events[i]; kept[e.Seq] {
		case e.raw:
		case "":
			if e.Type == "stream.reset" {
				return // it was told of what is behind it
			}
			j.v.lost("%s: %s was given %s, which is gone", t.id, r.who, e.ID)
		default:
			j.v.doubled("%s: %s was given another %d than the log has: %s", t.id, r.who, e.Seq, e.raw)
		}
	}
	if missing := len(kept) - len(r.events); r.over && missing > 0 {
		j.v.lost("%s: %s was not given %d of %d events", t.id, r.who, missing, len(kept))
	}
}

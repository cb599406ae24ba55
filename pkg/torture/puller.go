package torture

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"
)

const (
	// pullers are fewer than submitters: their jobs wait at times.
	pullers = 4
	// freezes is how often, of a hundred steps, a worker stops for longer than its lease
	// lives, and goes on as if nothing had been.
	freezes = 4
	// deaths is how often, of a hundred steps, one is never heard of again; the next has
	// another lease.
	deaths = 2
	// lastWords is how often it then says something more, whatever it is answered.
	lastWords = 3
)

// puller is a worker that pulls its work.
type puller struct {
	*client
	name string
}

func newPuller(s *session, n int) *puller {
	return &puller{client: s.client("worker", n, ofPullers), name: fmt.Sprintf("worker-%d", n)}
}

// run works until nobody waits for work any more.
func (p *puller) run() {
	defer p.close()
	for !isClosed(p.done) && p.ctx.Err() == nil {
		if l, ok := p.lease(); ok {
			p.work(l)
		} else if !p.again() {
			return
		}
	}
}

// lease is what a worker is given.
type lease struct {
	Lease string
	Job   struct {
		ID    string
		Input input
	}
}

// run returns what the work calls itself, which is no secret.
func (l *lease) run() string {
	sum := sha256.Sum256([]byte(l.Lease))
	return hex.EncodeToString(sum[:8])
}

// lease asks for work.
func (p *puller) lease() (l lease, ok bool) {
	a, err := p.ask(http.MethodPost, "/v1/leases", object{"kinds": []string{kindPull}, "worker": p.name}, "Prefer", "wait=2")
	if err != nil {
		p.diary.note(entry{What: silent, Detail: err.Error()})
		return l, false
	}
	var body struct{ Leases []lease }
	switch {
	case a.status == http.StatusNoContent, mayRefuse(a.status):
		return l, false
	case a.status != http.StatusOK || a.into(&body) != nil || len(body.Leases) != 1:
		p.diary.note(entry{What: surprise, Status: a.status, Detail: "an answer to a request for work: " + string(a.body)})
		return l, false
	}
	l = body.Leases[0]
	p.diary.note(entry{What: leased, Job: l.Job.ID, Key: l.Job.Input.Key, Run: l.run()})
	return l, true
}

// work does the job, as long as the lease is its own. One that was frozen does not
// believe that it is not.
func (p *puller) work(l lease) {
	for n := 1; n <= steps; n++ {
		pause(p.ctx, stepTime)
		if p.chance(deaths) {
			p.diary.note(entry{What: left, Job: l.Job.ID, Run: l.run()})
			return
		}
		frozen := p.chance(freezes)
		if frozen {
			p.freeze(l)
		}
		if p.report(l, "step", said{Run: l.run(), N: n, Of: steps}) {
			continue
		}
		if frozen {
			p.rave(l, n)
		}
		return
	}
	p.report(l, lastWord, said{Run: l.run(), N: steps, Of: steps})
}

func (p *puller) freeze(l lease) {
	d := leaseTime + time.Duration(p.rand.Int64N(int64(leaseTime)))
	p.diary.note(entry{What: froze, Job: l.Job.ID, Run: l.run(), For: d})
	pause(p.ctx, d)
}

// rave goes on with work that is another's.
func (p *puller) rave(l lease, n int) {
	for range lastWords {
		p.report(l, "step", said{Run: l.run(), N: n, Of: steps, Try: lastWords})
		pause(p.ctx, stepTime)
	}
	p.report(l, lastWord, said{Run: l.run(), N: n, Of: steps})
}

// lastWord is the event that a worker ends its work with.
const lastWord = "job.succeeded"

// report says something until there is an answer; false: the lease is lost. What was
// said without an answer may have been heard, so that it is said with another number;
// an end is the same, however often it is told.
func (p *puller) report(l lease, typ string, s said) bool {
	for {
		switch p.tell(l, typ, s) {
		case reported:
			return true
		case lostIt, surprise:
			return false
		}
		if typ != lastWord {
			s.Try++
		}
		if !p.again() {
			return false
		}
	}
}

// tell says something once, and returns what came of it.
func (p *puller) tell(l lease, typ string, s said) what {
	data := any(s)
	if typ == lastWord {
		data = object{"result": s}
	}
	e := entry{Job: l.Job.ID, Run: s.Run, Said: &s, Kind: typ}
	a, err := p.ask(http.MethodPost, "/v1/leases/"+l.Lease+"/events", []object{{"type": typ, "data": data}})
	switch {
	case err != nil:
		e.What, e.Detail = silent, err.Error()
	case a.status == http.StatusOK:
		e.What, e.Status = reported, a.status
	case a.status == http.StatusConflict:
		e.What, e.Status = lostIt, a.status
	case mayRefuse(a.status):
		e.What, e.Status = refused, a.status
	default:
		e.What, e.Status, e.Detail = surprise, a.status, "an answer to a worker: "+string(a.body)
	}
	p.diary.note(e)
	return e.What
}

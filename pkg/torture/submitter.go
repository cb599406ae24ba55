package torture

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// submitters are few: a torture is about what happens, not about load, and is to
	// mean the same on a small machine.
	submitters = 8
	// racers is how many submit the same key at once, if they do.
	racers = 3
	// idleTime is the longest that a submitter rests between two jobs.
	idleTime = 200 * time.Millisecond
	// cancelTime is the longest that a job is left alone before it is canceled, if it is.
	cancelTime = 1500 * time.Millisecond
)

// The streams of the seed.
const (
	ofSubmitters = 2 + iota
	ofReaders
	ofCancelers
	ofPullers
)

// start starts all clients. They go on until nothing new is submitted and what was
// accepted is over.
func (s *session) start() {
	for n := range submitters {
		s.clients.Go(newSubmitter(s, n).run)
	}
	if s.pulls {
		for n := range pullers {
			s.workers.Go(newPuller(s, n).run)
		}
	}
}

// submitter submits a job, has readers follow it to its end, and maybe somebody
// cancel it; then the next.
type submitter struct {
	*client
	n       int
	keys    int // used so far
	readers []*reader
	cancel  *client
}

func newSubmitter(s *session, n int) *submitter {
	b := &submitter{client: s.client("submitter", n, ofSubmitters), n: n, cancel: s.client("canceler", n, ofCancelers)}
	for i := range transports {
		b.readers = append(b.readers, newReader(s, n*len(transports)+i, i))
	}
	return b
}

func (b *submitter) run() {
	defer b.close()
	for !b.isOver() {
		kind := b.choose()
		if id := b.submit(kind); id != "" {
			b.accepted.Add(1) // once for each job: all who race for a key are told of one
			b.follow(id, kind)
		}
		pause(b.ctx, time.Duration(b.rand.Int64N(int64(idleTime))))
	}
}

func (b *submitter) close() {
	for _, r := range b.readers {
		r.close()
	}
	b.cancel.close()
	b.client.close()
}

func (b *submitter) choose() string {
	kinds := []string{kindLines, kindLines, kindTokens, kindTokens, kindFails, kindDeaf, kindOnce}
	if b.pulls {
		kinds = append(kinds, kindPull, kindPull, kindPull)
	}
	return kinds[b.rand.IntN(len(kinds))]
}

// follow waits until all readers of the job know its end.
func (b *submitter) follow(id, kind string) {
	var all sync.WaitGroup
	for _, r := range b.readers {
		all.Go(func() { r.follow(id) })
	}
	percent := 10
	if kind == kindDeaf {
		percent = 70
	}
	if b.chance(percent) {
		wait := time.Duration(b.rand.Int64N(int64(cancelTime)))
		all.Go(func() { b.cancelAfter(id, wait) })
	}
	all.Wait()
}

// input is what a job is given: its work knows by it under which key it was submitted.
type input struct {
	By  int    `json:"by"`
	Key string `json:"key,omitempty"`
}

// submit submits until a job is accepted. One whose answer was lost may be done too;
// without a key nobody will ever know of it.
func (b *submitter) submit(kind string) (id string) {
	if b.chance(50) {
		return b.insist(kind, "", b.chance(streamed))
	}
	b.keys++
	key := fmt.Sprintf("%d-%d-%d", b.Seed, b.n, b.keys)
	if !b.chance(33) {
		return b.insist(kind, key, b.chance(streamed))
	}
	var racing sync.WaitGroup
	ids := make([]string, racers)
	for i := range ids {
		racing.Go(func() { ids[i] = b.insist(kind, key, false) })
	}
	racing.Wait()
	slices.Sort(ids) // some may have given up; that the others are one the judge sees
	return ids[len(ids)-1]
}

// insist submits until there is an answer, as a stream or not.
func (b *submitter) insist(kind, key string, stream bool) (id string) {
	try := b.try
	if stream {
		try = b.stream
	}
	for {
		if id, ok := try(kind, key); ok {
			return id
		}
		if b.isOver() || !b.again() {
			return ""
		}
	}
}

// try submits once; not ok: nothing is known of it.
func (b *submitter) try(kind, key string) (id string, ok bool) {
	e := entry{Kind: kind, Key: key}
	defer func() { b.diary.note(e) }()
	a, err := b.ask(http.MethodPost, "/v1/jobs", json.RawMessage(b.body(kind, key)), keyHeader(key)...)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		return "", false
	}
	var j struct{ ID, Status string }
	e.Status = a.status
	switch {
	case a.status == http.StatusOK || a.status == http.StatusAccepted:
		err := a.into(&j)
		if e.What, e.Job, e.State = accepted, j.ID, j.Status; err != nil || j.ID == "" {
			e.What, e.Detail = surprise, "an answer to a submit names no job: "+string(a.body)
		}
	default:
		e.What, e.Detail = b.refusal(a.status), "an answer to a submit: "+string(a.body)
	}
	if e.What == accepted {
		b.count()
	}
	return j.ID, j.ID != ""
}

// count tells others of a job that was just accepted.
func (b *submitter) count() {
	select {
	case b.accepts <- struct{}{}:
	default:
	}
}

// cancelAfter cancels a job, and does not give up before it is told that this is done.
func (b *submitter) cancelAfter(id string, wait time.Duration) {
	c := b.cancel
	for ok := pause(c.ctx, wait); ok; ok = c.again() {
		a, err := c.ask(http.MethodPost, "/v1/jobs/"+id+"/cancel", nil)
		if err != nil {
			c.diary.note(entry{What: silent, Job: id, Detail: err.Error()})
			continue
		}
		e := entry{What: canceled, Job: id, Status: a.status}
		var j struct{ Status string }
		switch {
		case a.status == http.StatusOK || a.status == http.StatusAccepted:
			_ = a.into(&j)
			e.State = j.Status
			c.diary.note(e)
			return
		case mayRefuse(a.status):
			e.What = refused
		default:
			e.What, e.Detail = surprise, "an answer to a cancel: "+string(a.body)
			c.diary.note(e)
			return
		}
		c.diary.note(e)
	}
}

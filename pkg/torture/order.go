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
	// racers is how many submit the same key at once, if they do.
	racers = 3
	// raws and delays are how often, of a hundred jobs, one is submitted with its input
	// as the body, and with a delay.
	raws   = 30
	delays = 12
	// minDelay and maxDelay are longer than a start takes, and short beside a torture.
	minDelay = 300 * time.Millisecond
	maxDelay = 2 * time.Second
)

// order is what a submitter wants to be done.
type order struct {
	kind, key string
	by        int
	delay     time.Duration
	raw       bool      // to the kind's own address
	hook      string    // where its end is to be delivered; "": nowhere
	sent      time.Time // for the first time

	batch *batch // that it is an item of; nil: it is submitted alone
	at    int    // its place there
}

// input is what a job is given: its work knows by it under which key it was submitted.
type input struct {
	By  int    `json:"by"`
	Key string `json:"key,omitempty"`
}

// invent returns the next order.
func (b *submitter) invent() order {
	o := order{kind: b.choose(), by: b.n, raw: b.chance(raws)}
	if b.chance(50) {
		o.key = b.nextKey()
	}
	if b.hooks && !o.raw && b.chance(hooked) {
		o.hook = b.up.url() + hookPath
	}
	if b.chance(delays) {
		o.delay = (minDelay + upTo(b.rand, maxDelay-minDelay)).Truncate(time.Millisecond)
	}
	return o
}

// nextKey returns a key that nobody has used.
func (b *submitter) nextKey() string {
	b.keys++
	return fmt.Sprintf("%d-%d-%d", b.Seed, b.n, b.keys)
}

// path is where it is submitted.
func (o *order) path() string {
	switch {
	case !o.raw:
		return "/v1/jobs"
	case o.delay == 0:
		return "/v1/kinds/" + o.kind + "/jobs"
	}
	return "/v1/kinds/" + o.kind + "/jobs?delay=" + o.delay.String()
}

// body is what is sent there.
func (o *order) body() json.RawMessage {
	var body any = input{o.by, o.key}
	if !o.raw {
		wrapped := object{"kind": o.kind, "input": body}
		if o.delay != 0 {
			wrapped["delay"] = o.delay.String()
		}
		if o.hook != "" {
			wrapped["webhook"] = object{"url": o.hook}
		}
		body = wrapped
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // texts and numbers
	}
	return text
}

// entry is what is noted of a try, but for what came of it.
func (o *order) entry() entry {
	e := entry{Kind: o.kind, Key: o.key, Sent: o.sent, For: o.delay, Hook: o.hook != ""}
	if o.raw {
		e.By = "raw"
	}
	return e
}

func keyHeader(key string) []string {
	if key == "" {
		return nil
	}
	return []string{"Idempotency-Key", key}
}

// submit submits until a job is accepted. One whose answer was lost may be done too;
// without a key nobody will ever know of it.
func (b *submitter) submit(o order) (id string) {
	o.sent = time.Now()
	if o.key == "" || !b.chance(33) {
		return b.insist(o, b.chance(streamed))
	}
	var racing sync.WaitGroup
	ids := make([]string, racers)
	for i := range ids {
		o := o
		o.raw = i == 0 && o.hook == "" // a key is one job at both addresses
		racing.Go(func() { ids[i] = b.insist(o, false) })
	}
	racing.Wait()
	slices.Sort(ids) // some may have given up; that the others are one the judge sees
	return ids[len(ids)-1]
}

// insist submits until there is an answer, as a stream or not.
func (b *submitter) insist(o order, stream bool) (id string) {
	try := b.try
	if stream {
		try = b.stream
	}
	for {
		if id, ok := try(o); ok {
			return id
		}
		if b.isOver() || !b.again() {
			return ""
		}
	}
}

// try submits once; not ok: nothing is known of it.
func (b *submitter) try(o order) (id string, ok bool) {
	e := o.entry()
	return b.post(&e, o.path(), o.body())
}

// post sends a submit, and notes in the entry what came of it.
func (b *submitter) post(e *entry, path string, body any) (id string, ok bool) {
	defer func() { b.diary.note(*e) }()
	a, err := b.ask(http.MethodPost, path, body, keyHeader(e.Key)...)
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
		e.What, e.Detail = refusal(a.status), "an answer to a submit: "+string(a.body)
	}
	if e.What == accepted {
		b.count()
	}
	return j.ID, j.ID != ""
}

// retry has a job that is over done once more, and does not give up before it knows of
// the other: its work will tell the first one's key.
func (b *submitter) retry(id string, o order) (next string) {
	e := entry{Kind: o.kind, Key: b.nextKey(), By: "retry", Of: id, Sent: time.Now()}
	for {
		e := e
		if next, ok := b.post(&e, "/v1/jobs/"+id+"/retry", nil); ok || e.What == surprise {
			return next
		}
		if !b.again() {
			return ""
		}
	}
}

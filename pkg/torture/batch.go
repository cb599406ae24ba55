package torture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// batches is how often, of a hundred times, a submitter submits many jobs at once.
	batches = 25
	// maxBatch is how many at most: they are seen to their ends one after the other.
	maxBatch = 5
	// keyedBatches and wrongBatches are how many of a hundred have an Idempotency-Key, and
	// an item that is no job.
	keyedBatches = 70
	wrongBatches = 30
	// racedBatches and repeatedBatches are how many of a hundred that have a key are submitted
	// by several at once, and once more when their jobs are over.
	racedBatches    = 50
	repeatedBatches = 50
)

// kindNone is the kind of an item that must be refused, and harm no other: there is no such
// kind.
const kindNone = "none"

// batch is many orders that are submitted at once.
type batch struct {
	items []order
	name  string    // of it, by which its work knows it
	key   string    // the Idempotency-Key; "": it has none
	lines bool      // NDJSON, and no array
	tries int       // without a key each is another batch
	sent  time.Time // for the first time
}

// inventBatch returns the next batch.
func (b *submitter) inventBatch() *batch {
	g := &batch{name: b.nextKey(), lines: b.chance(50)}
	if b.chance(keyedBatches) {
		g.key = g.name
	}
	for range 2 + b.rand.IntN(maxBatch-1) {
		o := order{kind: b.choose(), by: b.n}
		if b.chance(delays) {
			o.delay = (minDelay + upTo(b.rand, maxDelay-minDelay)).Truncate(time.Millisecond)
		}
		g.items = append(g.items, o)
	}
	if b.chance(wrongBatches) {
		g.items[b.rand.IntN(len(g.items))].kind = kindNone
	}
	return g
}

// next returns the batch as it is sent: each item with a key of its own, that of the batch
// and its place, which its work tells. Without an Idempotency-Key each try is another batch.
func (g *batch) next() *batch {
	g.tries++
	sent, name := *g, g.name
	if g.key == "" {
		name = fmt.Sprintf("%s.%d", g.name, g.tries)
	}
	sent.items = slices.Clone(g.items)
	for i := range sent.items {
		o := &sent.items[i]
		o.key, o.sent, o.batch, o.at = fmt.Sprintf("%s/%d", name, i), g.sent, &sent, i
	}
	return &sent
}

// size is how many of its items are jobs.
func (g *batch) size() (n int) {
	for i := range g.items {
		if g.items[i].kind != kindNone {
			n++
		}
	}
	return n
}

// body is what is sent, and its media type.
func (g *batch) body() (text []byte, mediaType string) {
	var lines [][]byte
	for i := range g.items {
		lines = append(lines, g.items[i].body())
	}
	if g.lines {
		return append(bytes.Join(lines, []byte("\n")), '\n'), "application/x-ndjson"
	}
	return slices.Concat([]byte("["), bytes.Join(lines, []byte(",")), []byte("]")), "application/json"
}

// seeBatch submits a batch, and sees each of its jobs to its end.
func (b *submitter) seeBatch() {
	g := b.inventBatch()
	told := b.submitBatch(g)
	b.accepted.Add(int64(len(told)))
	for _, id := range slices.Sorted(maps.Keys(told)) {
		b.see(id, told[id])
	}
	if g.key != "" && len(told) == g.size() && b.chance(repeatedBatches) {
		b.repeatBatch(g, told)
	}
}

// repeatBatch submits a batch once more whose jobs have all been told, until there is an
// answer: with those that are not erased.
func (b *submitter) repeatBatch(g *batch, told map[string]order) {
	for {
		sent := g.next()
		e := entry{Under: g.key, By: "batch", Jobs: g.size(), Sent: g.sent}
		items, ok := b.postBatch(&e, sent)
		switch {
		case ok:
			for i := range items {
				b.diary.note(items[i].again(e, &sent.items[i], told))
			}
			return
		case e.Status == http.StatusNotFound: // none of them is kept
			for id := range told {
				b.diary.note(entry{What: missing, Job: id, By: "batch", Status: e.Status})
			}
			return
		}
		b.diary.note(e)
		if e.What == surprise || !b.again() {
			return
		}
	}
}

// again is entry for an item whose job was told: it may not be there any more.
func (i *item) again(e entry, o *order, told map[string]order) entry {
	e = i.entry(e, o)
	for id, of := range told {
		if of.at == o.at && i.ID == "" && e.Status == http.StatusNotFound {
			return entry{What: missing, Job: id, By: "batch", Status: e.Status}
		}
	}
	return e
}

// submitBatch submits until all of the jobs are accepted, or without a key until some are,
// and returns what was told, by the ids.
func (b *submitter) submitBatch(g *batch) map[string]order {
	g.sent = time.Now()
	if g.key == "" || !b.chance(racedBatches) {
		return b.insistOnBatch(g)
	}
	var racing sync.WaitGroup
	all := make([]map[string]order, racers)
	for i := range all {
		g := *g
		g.lines = i%2 == 0 // a key is one batch in both forms
		racing.Go(func() { all[i] = b.insistOnBatch(&g) })
	}
	racing.Wait()
	for _, told := range all[1:] {
		maps.Copy(all[0], told)
	}
	return all[0]
}

func (b *submitter) insistOnBatch(g *batch) map[string]order {
	told := map[string]order{}
	for {
		sent := g.next()
		done := b.tryBatch(sent, told)
		if done || len(told) > 0 && g.key == "" || b.isOver() || !b.again() {
			return told
		}
	}
}

// tryBatch submits once and adds the jobs that it is told of; not done: some may be missing.
func (b *submitter) tryBatch(g *batch, told map[string]order) (done bool) {
	e := entry{Under: g.key, By: "batch", Jobs: g.size(), Sent: g.sent}
	items, ok := b.postBatch(&e, g)
	if !ok {
		b.diary.note(e)
		return e.What == surprise
	}
	done = true
	for i := range items {
		e := items[i].entry(e, &g.items[i])
		b.diary.note(e)
		switch e.What {
		case accepted:
			told[e.Job] = g.items[i]
		case refused:
			done = false
		}
	}
	b.count()
	return done
}

// item is what a batch is answered for one of its items: a job, or why there is none.
type item struct {
	ID, Batch string
	Status    json.RawMessage // of a job, or of a problem
	raw       json.RawMessage
}

// postBatch sends a batch, and notes in the entry what came of it as a whole; not ok:
// there is no more to say.
func (c *client) postBatch(e *entry, g *batch) (items []item, ok bool) {
	text, mediaType := g.body()
	a, err := c.askText(http.MethodPost, "/v1/jobs", text, append(keyHeader(g.key), "Content-Type", mediaType)...)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		return nil, false
	}
	e.Status, e.Detail = a.status, "an answer to a batch: "+string(a.body)
	if a.status != http.StatusAccepted {
		e.What = refusal(a.status)
		return nil, false
	}
	var answer struct {
		Batch string
		Jobs  []json.RawMessage
	}
	if a.into(&answer) != nil || answer.Batch == "" || len(answer.Jobs) != len(g.items) {
		e.What = surprise
		return nil, false
	}
	e.Batch, e.Detail = answer.Batch, ""
	for _, raw := range answer.Jobs {
		i := item{raw: raw}
		_ = json.Unmarshal(raw, &i) // what is missing is found below
		items = append(items, i)
	}
	return items, true
}

// entry is what is noted of an item of a batch of which e is noted.
func (i *item) entry(e entry, o *order) entry {
	e.Kind, e.Key, e.For = o.kind, o.key, o.delay
	var state string
	e.Status = http.StatusAccepted
	if i.ID == "" {
		_ = json.Unmarshal(i.Status, &e.Status)
	} else {
		_ = json.Unmarshal(i.Status, &state)
	}
	wrong := o.kind == kindNone
	switch {
	case i.ID != "" && !wrong && i.Batch == e.Batch:
		e.What, e.Job, e.State = accepted, i.ID, state
	case i.ID == "" && wrong && e.Status == http.StatusNotFound:
		e.What = declined
	case i.ID == "" && !wrong && mayRefuse(e.Status):
		e.What = refused
	default:
		e.What, e.Job, e.Detail = surprise, i.ID, fmt.Sprintf("an answer to the item %d of a batch, of the kind %s: %s", o.at, o.kind, i.raw)
	}
	return e
}

package torture

import (
	"encoding/json"
	"net/http"
	"time"
)

// eraser erases jobs, and looks whether there is still something of them.
type eraser struct {
	*client
	list []erasure
}

// erasure is a job that is gone, and what it was.
type erasure struct {
	id string
	o  order
}

// eraseAfter erases a job, and does not give up before it is told that this is done.
func (x *eraser) eraseAfter(id string, o order, wait time.Duration) {
	if !pause(x.ctx, wait) {
		return
	}
	x.diary.note(entry{What: erasing, Job: id})
	for tries := 0; ; tries++ {
		e := x.erase(id, tries > 0)
		x.diary.note(e)
		switch {
		case e.What == erased:
			x.count() // a kill behind this one is worth as much as one behind a submit
			x.list = append(x.list, erasure{id, o})
			x.probe(id, o)
			return
		case e.What == surprise, !x.again():
			return
		}
	}
}

// erase erases once. Behind a try that may have been heard it may be gone.
func (x *eraser) erase(id string, mayBeGone bool) entry {
	e := entry{What: erased, Job: id}
	a, err := x.ask(http.MethodDelete, "/v1/jobs/"+id, nil)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		return e
	}
	switch e.Status = a.status; {
	case a.status == http.StatusNoContent, a.status == http.StatusNotFound && mayBeGone:
	case mayRefuse(a.status):
		e.What = refused
	default:
		e.What, e.Detail = surprise, "an answer to who erases: "+string(a.body)
	}
	return e
}

// look looks for all jobs that were erased.
func (x *eraser) look() {
	for _, e := range x.list {
		x.probe(e.id, e.o)
	}
}

// probe asks for a job that is gone, in every way there is but a stream, which is what
// readers do.
func (x *eraser) probe(id string, o order) {
	self := "/v1/jobs/" + id
	x.knock(id, http.MethodGet, self, nil, "")
	x.knock(id, http.MethodGet, self+"/events?format=json", nil, "")
	x.knock(id, http.MethodGet, self+"/events?format=ndjson", nil, "")
	x.knock(id, http.MethodGet, self+"/result", nil, "")
	x.knock(id, http.MethodPost, self+"/cancel", nil, "")
	x.knock(id, http.MethodPost, self+"/retry", nil, "")
	x.knock(id, http.MethodDelete, self, nil, "")
	switch {
	case o.batch != nil && o.batch.key != "":
		x.knockBatch(id, o.batch, o.at)
	case o.batch == nil && o.key != "":
		x.knock(id, http.MethodPost, o.path(), o.body(), o.key)
	}
}

// knockBatch submits the batch of a job that is gone once more: the others are answered for,
// and so is it.
func (x *eraser) knockBatch(id string, g *batch, at int) {
	e := entry{What: probed, Job: id, Key: g.key, By: "its batch again", Sent: time.Now()}
	whole := entry{}
	items, ok := x.postBatch(&whole, g)
	switch e.Status = whole.Status; {
	case ok && items[at].ID == "":
		_ = json.Unmarshal(items[at].Status, &e.Status)
	case whole.What == silent:
		e.What, e.Detail = silent, whole.Detail
	case whole.What == surprise && whole.Status == http.StatusAccepted:
		e.What, e.Detail = surprise, whole.Detail
	}
	if mayRefuse(e.Status) {
		e.What = refused
	}
	x.diary.note(e)
}

// knock asks once. No answer is one too: there will be another time.
func (x *eraser) knock(id, method, path string, body any, key string) {
	e := entry{What: probed, Job: id, Key: key, By: method + " " + path, Sent: time.Now()}
	a, err := x.ask(method, path, body, keyHeader(key)...)
	switch {
	case err != nil:
		e.What, e.Detail = silent, err.Error()
	case a.status != http.StatusConflict && mayRefuse(a.status):
		e.What, e.Status = refused, a.status
	default:
		e.Status = a.status
	}
	x.diary.note(e)
}

package torture

import (
	"net/http"
)

// watcher looks at a job itself, as a client does that has no use for events: it says
// what it knows already, and waits for something else.
type watcher struct{ *client }

const (
	// unknowing is how often, of a hundred times, it does not say what it knows.
	unknowing = 30
	longPoll  = "wait=5"
)

// watch looks until the job is over.
func (w *watcher) watch(id string) {
	w.diary.note(entry{What: watches, Job: id})
	for tag, ok := "", true; ok; ok = w.again() {
		if w.chance(unknowing) {
			tag = ""
		}
		e := w.look(id, tag)
		w.diary.note(e)
		switch {
		case e.What == missing, e.What == surprise, isOver(e.State):
			return
		case e.Tag != "":
			tag = e.Tag
		}
	}
}

// look asks once.
func (w *watcher) look(id, tag string) entry {
	headers := []string{"Prefer", longPoll}
	if tag != "" {
		headers = append(headers, "If-None-Match", tag)
	}
	e := entry{What: saw, Job: id, Known: tag}
	a, err := w.ask(http.MethodGet, "/v1/jobs/"+id, nil, headers...)
	if err != nil {
		e.What, e.Detail = silent, err.Error()
		return e
	}
	e.Status, e.Sent, e.Tag = a.status, a.sent, a.header.Get("ETag")
	var j struct {
		Status, Cursor string
		Attempt        int
	}
	switch {
	case a.status == http.StatusOK && a.into(&j) == nil:
		e.State, e.Cursor, e.Attempt = j.Status, j.Cursor, j.Attempt
	case a.status == http.StatusNotModified && tag != "":
	case a.status == http.StatusNotFound:
		e.What = missing
	case mayRefuse(a.status):
		e.What = refused
	default:
		e.What, e.Detail = surprise, "an answer to who looks at the job: "+string(a.body)
	}
	return e
}

// isOver reports whether the state is an end.
func isOver(state string) bool {
	return state == "succeeded" || state == "failed" || state == "canceled"
}

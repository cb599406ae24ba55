package torture

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
)

// sights judges what a watcher was shown of the job itself: always as the log says, never
// as it was before, and at last its end.
func (j *judge) sights(t *trial, w *account) {
	known := map[string]int{}
	for i := range t.log.events {
		known[t.log.events[i].ID] = i
	}
	var last entry
	at := 0
	for i := range w.answers {
		e := &w.answers[i]
		if e.Status != http.StatusOK {
			continue
		}
		now, there := known[e.Cursor]
		switch {
		case !there:
			j.v.lost("%s: %s was shown it behind %s, which is gone", t.id, w.who, e.Cursor)
		case now < at, isOver(last.State) && e.State != last.State:
			j.v.reordered("%s: %s was shown it %s behind %s, and before that %s behind %s", t.id, w.who, e.State, e.Cursor, last.State, last.Cursor)
		case e.Attempt < last.Attempt:
			j.v.reordered("%s: %s was shown attempt %d behind attempt %d", t.id, w.who, e.Attempt, last.Attempt)
		case e.State != stateAt(t.log.events[:now+1]):
			j.v.lost("%s: %s was shown it %s at %d, where the log says %s", t.id, w.who, e.State, now+1, stateAt(t.log.events[:now+1]))
		case e.Tag == "", e.Tag == e.Known:
			j.v.doubled("%s: %s was shown what it said that it knows, the ETag %q", t.id, w.who, e.Tag)
		}
		last, at = *e, now
	}
	if !isOver(last.State) {
		j.v.stuck("%s: %s was not shown its end", t.id, w.who)
	}
}

// stateAt returns what state a job is in behind these events.
func stateAt(events []event) (state string) {
	for i := range events {
		switch e := &events[i]; {
		case e.Type == "job.queued", e.Type == "job.running", e.over():
			state = e.Type[len("job."):]
		}
	}
	return state
}

// result judges the bytes that a fetcher was given: those that the log says, from the first
// to the last, or none.
func (j *judge) result(t *trial, f *account) {
	want, has := t.result()
	covered, done := int64(0), false
	for i := range f.answers {
		e := &f.answers[i]
		switch {
		case e.What == fetched && (e.Status == http.StatusOK) != has:
			j.v.lost("%s: %s was answered %d to who wants the result of what is %s", t.id, f.who, e.Status, t.state)
		case e.What == piece && has:
			j.piece(t, f, e, want)
			if e.From <= covered {
				covered = max(covered, e.end())
			}
		}
		done = done || e.What == fetched
	}
	switch {
	case !done:
		j.v.stuck("%s: %s was never given its result, nor told that there is none", t.id, f.who)
	case has && covered < int64(len(want)):
		j.v.lost("%s: %s was given %d of the %d bytes of its result", t.id, f.who, covered, len(want))
	}
}

func (j *judge) piece(t *trial, f *account, e *entry, want []byte) {
	sum := sha256.Sum256(want)
	switch {
	case e.Size != int64(len(want)):
		j.v.lost("%s: %s was told that its result has %d bytes, and it has %d", t.id, f.who, e.Size, len(want))
	case e.end() > e.Size || !bytes.Equal(e.Bytes, want[e.From:e.end()]):
		j.v.lost("%s: %s was given other bytes from %d to %d than its result has", t.id, f.who, e.From, e.end())
	case e.Tag != `"`+hex.EncodeToString(sum[:])+`"`:
		j.v.lost("%s: %s was given its result as %s, and it is %x", t.id, f.who, e.Tag, sum)
	}
}

// result returns the bytes of the job's result, as its events have them: a text in it, or
// all that was written, or JSON.
func (t *trial) result() (text []byte, has bool) {
	list := attempts(t.log.events)
	if len(list) == 0 {
		return nil, false
	}
	last := list[len(list)-1]
	if last.end == nil || last.end.Type != "job.succeeded" {
		return nil, false
	}
	if last.text.Len() > 0 {
		return []byte(last.text.String()), true
	}
	var d struct{ Result json.RawMessage }
	_ = json.Unmarshal(last.end.Data, &d)
	var s string
	if json.Unmarshal(d.Result, &s) == nil {
		return []byte(s), true
	}
	return d.Result, true
}

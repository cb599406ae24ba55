package broker

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// A start reads the heads of all finished jobs, of which encoding/json would take most of
// the time. So a head that is as encode writes it is read here, and what the folds do not
// look at is passed over; any other is left to decodeArchive.

// head is what a start needs of the head of a finished job.
type head struct {
	name     string // in the archive
	position uint64
	job      job.Job // without Progress and Output, and with the Result only if it lies in pieces
	parts    int
	err      error // it is damaged
}

// headReader reads heads. What many jobs have alike (kind, owner, tags) is in memory once.
type headReader struct {
	texts map[string]string
	name  string // of the head
}

// read makes h of what is stored of a head. It keeps nothing of the data.
func (r *headReader) read(s stored, h *head) {
	*h = head{name: s.subject, position: s.position}
	text, _, err := cutArchive(s.subject, s.data)
	if err != nil || r.known(text, h) {
		h.err = err
		h.job.Result = pieced(h.job.Result)
		return
	}
	h.job = job.Job{}
	a, err := decodeArchive(s.subject, s.data)
	if err != nil {
		h.err = err
		return
	}
	h.job, h.parts = a.Job, len(a.Parts)
	h.job.Progress, h.job.Output, h.job.Result = nil, nil, pieced(h.job.Result)
}

// pieced returns r if it lies in pieces.
func pieced(r *job.Result) *job.Result {
	if r == nil || len(r.Pieces) == 0 {
		return nil
	}
	return r
}

// The members of a head, in the order that they are written in.
var (
	headMembers = []string{"job", "parts"}
	jobMembers  = []string{
		"id", "kind", "owner", "status", "attempt", "max_attempts", "priority", "key", "tags", "batch", "once", "upload", "webhook",
		"created_at", "run_at", "started_at", "finished_at", "expires_at", "cancel_requested_at",
		"progress", "output", "result", "erased", "finish", "cursor",
	}
	onceMembers   = []string{"record", "fingerprint"}
	cursorMembers = []string{"Seq", "Position", "Epoch"}
)

// known reads text, if it has nothing that is not known here.
func (r *headReader) known(text []byte, h *head) bool {
	r.name = h.name
	return members(text, headMembers, func(name string, value []byte) bool {
		if name == "parts" {
			var parts []part
			err := json.Unmarshal(value, &parts)
			h.parts = len(parts)
			return err == nil
		}
		return members(value, jobMembers, func(name string, value []byte) bool { return r.value(value, memberOf(&h.job, name)) })
	})
}

// memberOf returns where a member of a job belongs; nil: nowhere.
func memberOf(j *job.Job, name string) any {
	switch name {
	case "id":
		return &j.ID
	case "kind":
		return &j.Kind
	case "owner":
		return &j.Owner
	case "status":
		return (*string)(&j.Status)
	case "attempt":
		return &j.Attempt
	case "max_attempts":
		return &j.MaxAttempts
	case "priority":
		return &j.Priority
	case "key":
		return &j.Key
	case "tags":
		return &j.Tags
	case "batch":
		return &j.Batch
	case "once":
		return &j.Once
	case "upload":
		return &j.Upload
	case "webhook":
		return &j.Webhook
	case "result":
		return &j.Result
	case "created_at":
		return &j.CreatedAt
	case "run_at":
		return &j.RunAt
	case "started_at":
		return &j.StartedAt
	case "finished_at":
		return &j.FinishedAt
	case "expires_at":
		return &j.ExpiresAt
	case "cancel_requested_at":
		return &j.CancelRequestedAt
	case "erased":
		return &j.Erased
	case "finish":
		return &j.Finish
	case "cursor":
		return &j.Cursor
	}
	return nil
}

// value reads a value into what to points to, and reports whether it could.
func (r *headReader) value(value []byte, to any) (ok bool) {
	switch to := to.(type) {
	case nil:
		return true
	case *job.ID: // it is the name of the head, which is in memory already
		*to = job.ID(r.name)
		text, isText := inner(value)
		return isText && string(text) == r.name
	case *string:
		*to, ok = r.text(value)
	case *time.Time:
		ok = to.UnmarshalJSON(value) == nil
	case *int:
		ok = number(value, to)
	case *uint64:
		ok = number(value, to)
	case *[]string:
		*to, ok = r.tags(value)
	case **job.Once:
		*to = &job.Once{}
		ok = members(value, onceMembers, func(name string, value []byte) bool { return r.value(value, memberOfOnce(*to, name)) })
	case *job.Cursor:
		ok = members(value, cursorMembers, func(name string, value []byte) bool { return r.value(value, memberOfCursor(to, name)) })
	case **job.Result: // of interest is where its pieces are, if it has any
		ok = !bytes.Contains(value, []byte(`"pieces":`)) || json.Unmarshal(value, to) == nil
	default: // they are rare
		ok = json.Unmarshal(value, to) == nil
	}
	return ok
}

func memberOfOnce(o *job.Once, name string) any {
	if name == "record" {
		return &o.Record
	}
	return &o.Fingerprint
}

func memberOfCursor(c *job.Cursor, name string) any {
	switch name {
	case "Seq":
		return &c.Seq
	case "Position":
		return &c.Position
	}
	return &c.Epoch
}

const (
	// longText is longer than what many jobs have alike.
	longText = 32
	// manyTexts is how many texts a headReader remembers.
	manyTexts = 4096
)

// text reads a text.
func (r *headReader) text(value []byte) (text string, ok bool) {
	b, ok := inner(value)
	if !ok {
		err := json.Unmarshal(value, &text)
		return text, err == nil && value[0] == '"'
	}
	if len(b) > longText {
		return string(b), true
	}
	text, ok = r.texts[string(b)]
	if !ok {
		if len(r.texts) == manyTexts {
			clear(r.texts)
		}
		text = string(b)
		r.texts[text] = text
	}
	return text, true
}

// inner returns the text that value is, if it stands there as it is.
func inner(value []byte) (text []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	text = value[1 : len(value)-1]
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' {
			return nil, false
		}
	}
	return text, true
}

// number reads a number that is not negative.
func number[N int | uint64](value []byte, to *N) bool {
	n, err := strconv.ParseUint(string(value), 10, 63)
	*to = N(n)
	return err == nil
}

// tags reads a list of texts.
func (r *headReader) tags(value []byte) (tags []string, ok bool) {
	ok = elements(value, func(value []byte) bool {
		tag, ok := r.text(value)
		tags = append(tags, tag)
		return ok
	})
	return tags, ok && len(tags) > 0
}

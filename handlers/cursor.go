package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// latest is the cursor of those who want a snapshot and what comes after it.
const latest = "latest"

// place is where a request wants to read on.
type place struct {
	cursor job.Cursor
	latest bool
	bad    bool // what it named is no cursor: cursor is the start
}

// maxNumber bounds the numbers of a cursor: seq is a JSON number too, and beyond
// this many clients read another one than was written. No event comes near.
const maxNumber = 1<<53 - 1

// placeOf reads the request's cursor. The header wins, as EventSource repeats its
// URL for ever; the other names of the query are those of its polyfills.
func placeOf(h http.Header, q url.Values) place {
	named := given(h.Values("Last-Event-ID"))
	if len(named) == 0 {
		named = namedIn(q)
		if len(named) == 1 && named[0] == latest {
			return place{latest: true}
		}
	}
	switch len(named) {
	case 0:
		return place{}
	case 1:
		return placeAt(named[0])
	}
	return place{bad: true}
}

// placeAt returns the place behind the event with this id.
func placeAt(id string) place {
	c, err := job.ParseCursor(id)
	if err != nil || c.Seq > maxNumber || c.Position > maxNumber {
		return place{bad: true}
	}
	return place{cursor: c}
}

// namedIn returns the cursors of the first name that has any.
func namedIn(q url.Values) []string {
	for _, name := range cursorNames {
		if v := given(q[name]); len(v) > 0 {
			return v
		}
	}
	return nil
}

// given returns the different values that are not empty. Of two there is no saying
// which one is meant.
func given(values []string) (v []string) {
	for _, text := range values {
		if text != "" && !slices.Contains(v, text) {
			v = append(v, text)
		}
	}
	return v
}

// start is a reader at the place a request named.
type start struct {
	tape.Reader
	reset string // why the client has to start over; "": it has not
}

// openAt opens the job's events at the place, or at the first if it is not one of
// this job's.
func (a *API) openAt(ctx context.Context, j *job.Job, at place) (start, error) {
	if at.latest {
		r, err := a.Hub.Open(ctx, j.ID, j.Cursor)
		return start{r, reasonLatest}, err
	}
	if !at.bad {
		r, err := a.Hub.Open(ctx, j.ID, at.cursor)
		if !errors.Is(err, job.ErrCursor) {
			return start{r, ""}, err
		}
	}
	r, err := a.Hub.Open(ctx, j.ID, job.Cursor{})
	return start{r, reasonCursor}, err
}

// Why a client has to start over.
const (
	reasonLatest = "latest" // it asked to
	reasonCursor = "cursor" // its cursor names no event that is kept
)

// resetData is the data of stream.reset.
type resetData struct {
	Reason string          `json:"reason"`
	First  *string         `json:"first"` // id of the first event that is kept; null: not looked up
	Job    *representation `json:"job"`   // null on a stream of many jobs, if there are none

	Truncated bool `json:"truncated,omitempty"` // on a stream of many jobs: there are more than were told
}

// reset returns the event that tells a reader to start over from a snapshot of
// the job. Its id is the place that what follows begins at.
func (a *API) reset(j *job.Job, reason string, first *string, at job.Cursor) (job.Event, error) {
	r := a.represent(j)
	data, err := job.JSON(resetData{Reason: reason, First: first, Job: &r})
	return aside(j, job.StreamReset, at, data), err
}

// beginning returns the place before the first event of the job that is kept.
func beginning(j *job.Job) job.Cursor {
	return job.Cursor{Place: job.Place{Epoch: j.Cursor.Epoch}}
}

// aside returns an event for one reader, which is not in the log.
func aside(j *job.Job, t job.Type, at job.Cursor, data json.RawMessage) job.Event {
	return job.Event{Job: j.ID, Place: at.Place, Record: job.Record{
		Seq: at.Seq, Type: t, Attempt: j.Attempt, Time: time.Now(), Data: data,
	}}
}

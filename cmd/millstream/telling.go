package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/millstream/millstream/pkg/job"
)

// What one report has at most, unless it is a single event: as many events as a server
// takes, and no more bytes than it reads of a report that it refuses.
const (
	maxReport     = 1000
	maxReportSize = 256 << 10
)

// Append says what the command says.
func (r *reporter) Append(ctx context.Context, recs ...job.Record) error {
	events := make([]job.Said, len(recs))
	for i := range recs {
		events[i] = job.Said{Type: recs[i].Type, Data: recs[i].Data}
		if recs[i].Type == job.Output {
			events[i] = r.place(recs[i].Data)
		}
		r.bytes += int64(len(recs[i].Data))
	}
	if err := r.tell(ctx, events); err != nil {
		return err
	}
	r.events += len(recs)
	return nil
}

// fit returns how many of the events go into one report.
func (r *reporter) fit(events []job.Said) int {
	size, room := 0, cmp.Or(r.room, maxReportSize)
	for i := range events {
		size += sizeOf(&events[i])
		if i == maxReport || i > 0 && size > room {
			return i
		}
	}
	return len(events)
}

// sizeOf returns how many bytes an event takes in a report.
func sizeOf(e *job.Said) int { return len(`{"type":"","data":},`) + len(e.Type) + len(e.Data) }

// tell says the events, in as many reports as they need.
func (r *reporter) tell(ctx context.Context, events []job.Said) error {
	for len(events) > 0 {
		n := r.fit(events)
		if err := r.try(ctx, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// try says the events in one report. If the server refuses it, it has stored none of them:
// then they are said in smaller ones, down to the event that it does not take.
func (r *reporter) try(ctx context.Context, events []job.Said) error {
	err := r.report(ctx, events...)
	status := statusOf(err)
	large := status == http.StatusRequestEntityTooLarge
	if !large && status != http.StatusBadRequest && status != http.StatusUnprocessableEntity {
		return err // nil, or it is not about what was said
	}
	if large && len(events) == 1 && events[0].Type == job.Output {
		events = halves(events[0])
	}
	switch n := len(events) / 2; {
	case n == 0:
		return r.leaveOut(ctx, events[0], err)
	case large:
		r.shrink(events)
		return r.tell(ctx, events)
	default:
		if err := r.try(ctx, events[:n]); err != nil {
			return err
		}
		return r.try(ctx, events[n:])
	}
}

// shrink takes note that the events are too many bytes for one report.
func (r *reporter) shrink(events []job.Said) {
	size := 0
	for i := range events {
		size += sizeOf(&events[i])
	}
	r.room = size / 2
}

// leaveOut has an event left out that the server does not take, as what is too large for any
// server is, and says so. Without some of its output a job would not be what it says.
func (r *reporter) leaveOut(ctx context.Context, e job.Said, why error) error {
	if e.Type == job.Output {
		return fmt.Errorf("the server does not take the output: %w", why)
	}
	return r.report(ctx, job.Said{Type: job.Log, Data: job.MustJSON(map[string]string{
		"stream": "millstream", "line": fmt.Sprintf("an event %s was left out: %v", e.Type, why),
	})})
}

// placed is the data of a job.output, with its place: one that is said again, because its
// answer was lost, is not there twice.
type placed struct {
	Chunk    string `json:"chunk"`
	Encoding string `json:"encoding,omitempty"`
	Offset   int64  `json:"offset"`
}

func parsePlaced(data json.RawMessage) (c placed, b []byte) {
	_ = json.Unmarshal(data, &c) // ours
	if c.Encoding == "" {
		return c, []byte(c.Chunk)
	}
	b, _ = base64.StdEncoding.DecodeString(c.Chunk)
	return c, b
}

// said returns the event that has b in the place of c.
func (c placed) said(b []byte) job.Said {
	if c.Chunk = string(b); c.Encoding != "" {
		c.Chunk = base64.StdEncoding.EncodeToString(b)
	}
	return job.Said{Type: job.Output, Data: job.MustJSON(c)}
}

// place returns a chunk behind all the output so far.
func (r *reporter) place(data json.RawMessage) job.Said {
	c, b := parsePlaced(data)
	c.Offset = r.length
	r.length += int64(len(b))
	return c.said(b)
}

// halves returns a chunk as two, cut between runes if it is a text; as one if it is too
// short for that.
func halves(e job.Said) []job.Said {
	c, b := parsePlaced(e.Data)
	n := len(b) / 2
	for n > 0 && c.Encoding == "" && !utf8.RuneStart(b[n]) {
		n--
	}
	if n == 0 {
		return []job.Said{e}
	}
	second := c
	second.Offset += int64(n)
	return []job.Said{c.said(b[:n]), second.said(b[n:])}
}

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// describe returns an event in a line for people.
func describe(e *client.Event) string {
	if d := descriptions[e.Type]; d != nil {
		return clean(d(e))
	}
	return clean(fmt.Sprintf("%s %s", e.Type, e.Data))
}

var descriptions = map[job.Type]func(*client.Event) string{
	job.Queued:          queuedText,
	job.Running:         func(e *client.Event) string { return fmt.Sprintf("running, attempt %d", e.Attempt) },
	job.Progress:        func(e *client.Event) string { return "progress " + progressText(dataOf[client.Progress](e)) },
	job.Output:          func(e *client.Event) string { return fmt.Sprintf("output, %d bytes", len(chunkOf(e).bytes)) },
	job.Log:             logText,
	job.CancelRequested: func(e *client.Event) string { return because("asked to stop", dataOf[reason](e).Reason) },
	job.AttemptFailed:   attemptFailedText,
	job.Succeeded:       func(*client.Event) string { return "succeeded" },
	job.Failed:          func(e *client.Event) string { return "failed: " + problemText(dataOf[failure](e).Error) },
	job.Canceled:        func(e *client.Event) string { return because("canceled", dataOf[reason](e).Reason) },
	job.StreamReset:     streamResetText,
	job.StreamErased:    func(*client.Event) string { return "erased" },
}

type (
	reason  struct{ Reason string }
	failure struct {
		Attempt int
		Error   *job.Problem
		RetryAt *time.Time `json:"retry_at"`
	}
)

// dataOf reads an event's data. What does not fit is left empty: this is for
// people, who see the rest.
func dataOf[T any](e *client.Event) (d T) {
	_ = json.Unmarshal(e.Data, &d)
	return d
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

func problemText(p *job.Problem) string {
	if p == nil {
		return "no reason given"
	}
	return p.Error()
}

func queuedText(e *client.Event) string {
	d := dataOf[job.QueuedData](e)
	text := "queued"
	if d.Reason != "" && d.Reason != job.ReasonSubmitted {
		text += fmt.Sprintf(" for attempt %d: %s", d.Attempt, d.Reason)
	}
	if d.RunAt != nil {
		text += ", to run at " + clock(time.Time(*d.RunAt))
	}
	return text
}

func attemptFailedText(e *client.Event) string {
	d := dataOf[failure](e)
	return fmt.Sprintf("attempt %d failed: %s", d.Attempt, problemText(d.Error))
}

func streamResetText(e *client.Event) string {
	why := dataOf[reason](e).Reason
	if why == client.Latest { // as was asked for
		return "what has happened is left out"
	}
	return because("the events start over", why)
}

func logText(e *client.Event) string {
	d := dataOf[struct{ Stream, Line string }](e)
	return d.Stream + ": " + d.Line
}

// progressText is 42/100 encoding, or 42 encoding if the total is not known.
func progressText(p client.Progress) string {
	text := number(p.Progress)
	if p.Total != nil {
		text += "/" + number(*p.Total)
	}
	return strings.TrimSpace(text + " " + p.Message)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// clean makes text of others' fit for a terminal, which control characters would
// drive.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// standing says how a job stands, in a few words.
func standing(j *client.Job) string {
	switch {
	case j.Status.Over() || j.CancelRequestedAt.IsZero():
		return string(j.Status)
	default:
		return string(j.Status) + ", asked to stop"
	}
}

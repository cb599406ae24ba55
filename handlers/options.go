package handlers

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// Limits of what a submit may ask for.
const (
	maxTags      = 16                  // enough to search by, too few to store things in
	maxTag       = 64                  // bytes, as for the names of kinds
	maxAttempts  = 100                 // with the longest backoff a day and more
	minRetention = time.Second         // the store counts in seconds
	maxRetention = 7 * 24 * time.Hour  // as long as a read token lives
	maxAhead     = 30 * 24 * time.Hour // a start or a deadline further away is a mistake
)

// known are the options of this release, by their names in a body and in a query.
var known = []string{"tags", "priority", "max_attempts", "timeout", "retention", "start_timeout", "deadline", "run_at", "delay", "cancel_on_disconnect", "webhook"}

// unserved are the options that clients may know from the contract. To ignore one
// would be to promise what is not kept.
var unserved = []string{"key"}

// options are what a submit asks for beside the kind and the input.
type options struct {
	tags      []string
	priority  *job.Priority // nil: the kind's
	attempts  int
	timeout   time.Duration
	retention time.Duration
	start     time.Duration
	deadline  string // as it was asked for
	runAt     string // as it was asked for
	delay     time.Duration
	webhook   *job.Webhook
	leaves    bool      // the job ends with its sender
	retryOf   job.ID    // the job that all the others are of; "": none
	large     io.Reader // the input, if it is too large to be held; nil: it is not
}

// setJSON sets an option from a member of a body.
func (o *options) setJSON(name string, raw json.RawMessage) (err error) {
	if string(raw) == "null" {
		return nil // as the job shows what was not asked for
	}
	pointer := "/" + name
	switch name {
	case "tags":
		if json.Unmarshal(raw, &o.tags) != nil {
			return invalid(pointer, "must be an array of strings")
		}
		return nil
	case "cancel_on_disconnect":
		if json.Unmarshal(raw, &o.leaves) != nil {
			return invalid(pointer, "must be true or false")
		}
		return nil
	case "webhook":
		o.webhook, err = parseWebhook(raw)
		return err
	case "max_attempts":
		if json.Unmarshal(raw, &o.attempts) != nil || o.attempts == 0 {
			return invalid(pointer, "must be a number from 1 to %d", maxAttempts)
		}
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return invalid(pointer, "must be a string")
	}
	return o.setText(name, text)
}

// setText sets an option from its text, as queries, headers and most members of
// a body have it.
func (o *options) setText(name, text string) (err error) {
	pointer := "/" + name
	switch name {
	case "tags":
		o.tags = append(o.tags, text)
	case "max_attempts":
		if o.attempts, err = strconv.Atoi(text); err != nil || o.attempts == 0 {
			return invalid(pointer, "must be a number from 1 to %d", maxAttempts)
		}
	case "priority":
		var p job.Priority
		p, err = parsePriority(pointer, text)
		o.priority = &p
	case "timeout":
		o.timeout, err = parseDuration(pointer, text)
	case "retention":
		o.retention, err = parseDuration(pointer, text)
	case "start_timeout":
		o.start, err = parseDuration(pointer, text)
	case "cancel_on_disconnect":
		if o.leaves = text == "true"; !o.leaves && text != "false" {
			return invalid(pointer, "must be true or false")
		}
	case "webhook":
		o.webhook = &job.Webhook{URL: text}
	case "delay":
		o.delay, err = parseDuration(pointer, text)
	case "run_at":
		o.runAt, err = text, notEmpty(pointer, text)
	case "deadline":
		o.deadline, err = text, notEmpty(pointer, text)
	}
	return err
}

// notEmpty fails on a time that is empty: a variable of a script that was not set, say.
func notEmpty(pointer, text string) error {
	if text == "" {
		return invalid(pointer, "must not be empty")
	}
	return nil
}

func parsePriority(pointer, text string) (job.Priority, error) {
	for _, p := range []job.Priority{job.Low, job.Normal, job.High} {
		if p.String() == text {
			return p, nil
		}
	}
	return 0, invalid(pointer, "must be low, normal or high")
}

func parseDuration(pointer, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, invalid(pointer, "must be a duration such as 90s, 10m or 1h30m")
	}
	return d, nil
}

// setQuery sets the options that a query holds.
func (o *options) setQuery(q url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(q)) { // in the same order each time
		values := q[name]
		switch {
		case name == "access_token":
			continue
		case name == "tag":
			name = "tags"
		case slices.Contains(unserved, name):
			return notServed("/" + name)
		case !slices.Contains(known, name):
			return job.Problemf("invalid-request", "There is no option %q.", name)
		}
		for _, v := range values {
			if err := o.setText(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// notOptions are headers of ours that say nothing of what is asked for: a server that sends
// its jobs to another sends them.
var notOptions = []string{"Millstream-Job", "Millstream-Attempt", "Millstream-Token", forward.KeyHeader}

// setHeader sets the options that are headers: Millstream-Max-Attempts for
// max_attempts, and Millstream-Tags, or Millstream-Tag, once for each tag.
func (o *options) setHeader(h http.Header) error {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		option, ours := strings.CutPrefix(name, "Millstream-")
		option = strings.ToLower(strings.ReplaceAll(option, "-", "_"))
		switch {
		case !ours, slices.Contains(known, option), slices.Contains(notOptions, name):
		case option == "tag":
			o.tags = append(o.tags, h.Values(name)...)
		case slices.Contains(unserved, option):
			return notServed("/" + option)
		default:
			return job.Problemf("invalid-request", "There is no option %q.", clip(name, maxEchoName))
		}
	}
	for _, name := range known {
		values := h.Values(headerOf(name))
		if len(values) > 1 && name != "tags" {
			return job.Problemf("invalid-request", "%s: is there twice", headerOf(name))
		}
		for _, v := range values {
			if err := o.setText(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func headerOf(option string) string { return "Millstream-" + strings.ReplaceAll(option, "_", "-") }

func notServed(pointer string) *job.Problem {
	return invalid(pointer, "is not supported by this version")
}

// request returns the request to store, with the kind's rules where the options
// do not say.
func (o *options) request(k *kind) (*job.Request, error) {
	if err := o.check(k); err != nil {
		return nil, err
	}
	r := &job.Request{
		Kind: k.Name, Owner: anonymous, Tags: o.tags, Priority: k.Priority,
		MaxAttempts: o.attempts, Timeout: o.timeout, Retention: o.retention, StartTimeout: o.start, CancelOnDisconnect: o.leaves, Webhook: o.webhook,
	}
	if err := o.times(r, time.Now()); err != nil {
		return nil, err
	}
	if r.MaxAttempts == 0 {
		r.MaxAttempts = k.MaxAttempts
	}
	if r.Timeout == 0 {
		r.Timeout = k.Timeout
	}
	if r.Retention == 0 {
		r.Retention = k.Retention
	}
	if o.priority != nil {
		r.Priority = *o.priority
	}
	return r, nil
}

// times sets when the job may begin, and when it must be over.
func (o *options) times(r *job.Request, now time.Time) (err error) {
	if r.RunAt, err = o.runsAt(now); err != nil {
		return err
	}
	if r.Deadline, err = o.deadlineAt(now); err != nil {
		return err
	}
	if !r.Deadline.IsZero() && r.RunAt.After(now) && !r.Deadline.After(r.RunAt) {
		return invalid("/deadline", "must be later than the job may begin, at %s", job.Time(r.RunAt))
	}
	return nil
}

// runsAt returns the time before which the job does not begin; zero: it may at once. One
// that has passed is as good as none: a repeat of the same submit is late by nature.
func (o *options) runsAt(now time.Time) (at time.Time, err error) {
	switch {
	case o.runAt == "" && o.delay == 0:
		return time.Time{}, nil
	case o.runAt != "" && o.delay != 0:
		return time.Time{}, invalid("/delay", "and run_at are two beginnings")
	case o.delay > maxAhead:
		return time.Time{}, invalid("/delay", "must be at most %s", maxAhead)
	case o.delay != 0:
		return now.Add(o.delay).UTC().Truncate(time.Millisecond), nil
	}
	if at, err = time.Parse(time.RFC3339, o.runAt); err != nil {
		return time.Time{}, invalid("/run_at", "must be a time such as 2026-11-22T10:00:00Z; a duration from now is a delay")
	}
	if at.Sub(now) > maxAhead {
		return time.Time{}, invalid("/run_at", "must be at most %s from now", maxAhead)
	}
	return at.UTC().Truncate(time.Millisecond), nil
}

// deadlineAt returns the time that a deadline names: a time of RFC 3339, or a duration
// from now on. That it is to come is asked where the job is stored (job.Request.Late): a
// repeat of a submit that was in time is answered with its job.
func (o *options) deadlineAt(now time.Time) (time.Time, error) {
	if o.deadline == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, o.deadline)
	if err != nil {
		var d time.Duration
		d, err = parseDuration("/deadline", o.deadline)
		at = now.Add(d)
	}
	switch {
	case err != nil:
		return time.Time{}, invalid("/deadline", "must be a time such as 2026-11-22T10:00:00Z, or a duration from now such as 90s or 1h30m")
	case at.Sub(now) > maxAhead:
		return time.Time{}, invalid("/deadline", "must be at most %s from now", maxAhead)
	}
	return somewhen(at.UTC().Truncate(time.Millisecond)), nil
}

// somewhen returns a time that was named: the zero time, which may be named too, would stand
// for none.
func somewhen(at time.Time) time.Time {
	if at.IsZero() {
		return at.Add(time.Millisecond)
	}
	return at
}

func (o *options) check(k *kind) error {
	longest := max(maxRetention, k.Retention)
	switch {
	case o.attempts < 0 || o.attempts > maxAttempts:
		return invalid("/max_attempts", "must be a number from 1 to %d", maxAttempts)
	case o.timeout > k.Timeout:
		return invalid("/timeout", "must be at most %s, the kind's", k.Timeout)
	case o.retention != 0 && o.retention < minRetention || o.retention > longest:
		return invalid("/retention", "must be from %s to %s", minRetention, longest)
	case o.start > maxAhead:
		return invalid("/start_timeout", "must be at most %s", maxAhead)
	case len(o.tags) > maxTags:
		return invalid("/tags", "must be at most %d", maxTags)
	}
	for i, tag := range o.tags {
		if !validTag(tag) {
			return invalid("/tags/"+strconv.Itoa(i), "must be 1 to %d bytes of UTF-8 without control characters", maxTag)
		}
	}
	return checkWebhook(o.webhook)
}

func validTag(tag string) bool {
	return tag != "" && len(tag) <= maxTag && !strings.ContainsRune(tag, utf8.RuneError) && !strings.ContainsFunc(tag, unicode.IsControl)
}

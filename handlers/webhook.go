package handlers

import (
	"encoding/json"
	"strconv"

	"github.com/millstream/millstream/pkg/job"
)

// Webhooks says where events may be sent.
type Webhooks interface {
	// Check says what is wrong with the URL of a webhook that nothing can be sent to.
	Check(w *job.Webhook) error
}

// maxWebhookEvents is how many names of events a webhook may list: more than there are of
// Millstream's own.
const maxWebhookEvents = 32

// parseWebhook reads the option as a body has it. Names are compared as they are: see
// checkName.
func parseWebhook(raw json.RawMessage) (*job.Webhook, error) {
	w, ok := new(job.Webhook), raw[0] == '{'
	if ok {
		for name := range members(raw) {
			ok = ok && (name == "url" || name == "events")
		}
	}
	if !ok || json.Unmarshal(raw, w) != nil {
		return nil, invalid("/webhook", `must be an object with "url" and, if wanted, "events": an array of their names`)
	}
	return w, nil
}

// checkWebhook fails on a webhook whose events are none.
func checkWebhook(w *job.Webhook) error {
	if w == nil {
		return nil
	}
	if len(w.Events) > maxWebhookEvents {
		return invalid("/webhook/events", "must be at most %d", maxWebhookEvents)
	}
	for i, t := range w.Events {
		if !job.ValidType(t) || t.Reserved() && !job.Own(t) {
			return invalid("/webhook/events/"+strconv.Itoa(i), "is not the name of an event of a job")
		}
	}
	return nil
}

// sendable returns the problem of a request whose webhook nothing can be sent to; nil: there
// is none.
func (a *API) sendable(r *job.Request) error {
	if r.Webhook == nil {
		return nil
	}
	if a.Webhooks == nil {
		return noSecret("/webhook")
	}
	if err := a.Webhooks.Check(r.Webhook); err != nil {
		return invalid("/webhook/url", "%v", err)
	}
	return nil
}

// noSecret is the problem of a webhook where nothing can be signed.
func noSecret(pointer string) error {
	return invalid(pointer, "cannot be signed: this server has no secret for webhooks. Its operator sets webhooks.secret; `millstream webhook secret` makes one")
}

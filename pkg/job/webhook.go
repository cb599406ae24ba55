package job

import (
	"encoding/json"
	"slices"
	"time"
)

// Webhook is where a job's events are sent.
type Webhook struct {
	URL    string `json:"url"`
	Events []Type `json:"events,omitempty"` // that are sent; none: the terminal ones
}

// Wants reports whether events of type t are sent. Of the terminal ones all are, unless
// some of them are named.
func (w *Webhook) Wants(t Type) bool {
	if slices.Contains(w.Events, t) {
		return true
	}
	return t.Terminal() && !slices.ContainsFunc(w.Events, Type.Terminal)
}

// WantsMore reports whether others than terminal events are sent.
func (w *Webhook) WantsMore() bool {
	return slices.ContainsFunc(w.Events, func(t Type) bool { return !t.Terminal() })
}

// own are the types that Millstream itself writes.
var own = []Type{Queued, Running, Progress, Output, Log, CancelRequested, AttemptFailed, Succeeded, Failed, Canceled}

// Own reports whether Millstream itself writes events of type t.
func Own(t Type) bool { return slices.Contains(own, t) }

// Delivery is one event on its way to a webhook. Its JSON form is how it is stored.
type Delivery struct {
	ID        string          `json:"id"` // of the event: its cursor
	Job       ID              `json:"job"`
	Owner     string          `json:"owner,omitempty"` // of the job
	Type      Type            `json:"type"`            // of the event
	URL       string          `json:"url"`
	State     DeliveryState   `json:"state"`
	CreatedAt time.Time       `json:"created_at"`
	Since     time.Time       `json:"since"`               // when its tries began
	NextAt    time.Time       `json:"next_at,omitzero"`    // while it is pending: not before
	SettledAt time.Time       `json:"settled_at,omitzero"` // when it was delivered, or given up
	KeptUntil time.Time       `json:"kept_until"`          // at least; the job's expiry
	Tries     int             `json:"tries"`               // since it was made, or sent again by hand
	Round     int             `json:"round,omitempty"`     // how often it was: what came of a try of another round counts for nothing
	Last      *Try            `json:"last,omitempty"`
	Body      json.RawMessage `json:"body,omitempty"` // that is sent, byte for byte; none: it was, and its job has it
	Version   uint64          `json:"-"`              // of what was read, of the store's; 0: unknown
}

// Try is what came of sending a delivery once.
type Try struct {
	At     time.Time `json:"at"`
	Status int       `json:"status,omitempty"` // of the answer; 0: there was none
	Error  string    `json:"error,omitempty"`  // why it was no success
}

// DeliveryState says what has become of a delivery.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryPending DeliveryState = "pending"   // it will be tried, again
	Delivered       DeliveryState = "delivered" // the receiver has said so
	DeliveryDead    DeliveryState = "dead"      // given up: a dead letter, which can be replayed
)

// Message returns the webhook-id of the delivery: the same for each of its tries.
func (d *Delivery) Message() string { return string(d.Job) + "_" + d.ID }

// Fresh reports whether the delivery is as a replay would make it: due, with all its tries
// before it.
func (d *Delivery) Fresh(now time.Time) bool {
	return d.State == DeliveryPending && d.Tries == 0 && !d.NextAt.After(now)
}

// maxWebhookResult is how large a result may be that stands in what a webhook is sent:
// Standard Webhooks advises to stay below 20 kB in all.
const maxWebhookResult = 16 << 10

// WebhookBody returns what a webhook is sent of an event: the event object, with a
// timestamp as Standard Webhooks has it. In foreign type names a '-' becomes a '_'.
// result is that of the job, if the event is its success; a large one goes by reference.
func (e *Event) WebhookBody(result *Result) json.RawMessage {
	sent := *e
	sent.Type = underscored(e.Type)
	if e.Type == Succeeded && result != nil && len(e.Data) > maxWebhookResult {
		sent.Data = MustData(map[string]json.RawMessage{"result": result.Reference(e.Job)})
	}
	b := sent.AppendJSON(nil)
	b = append(b[:len(b)-1], `,"timestamp":"`...)
	b = appendTime(b, e.Time)
	return append(b, `"}`...)
}

// underscored returns t as Standard Webhooks lets a type be named: [A-Za-z0-9_.].
func underscored(t Type) Type {
	b := []byte(t)
	for i, c := range b {
		if c == '-' {
			b[i] = '_'
		}
	}
	return Type(b)
}

// Package graph is the GraphQL API: its schema, what executes a request, and how much
// of it one request may ask for. It knows nothing of HTTP, and of the rest only Service.
//
//	Request → Engine.Start → parse, validate, limits.go → Operation → Next, Next, … → Response
//	                                                       resolver.go → Service
package graph

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
)

//go:generate go tool gqlgen generate

// Service does what a request asks for. Errors that are *job.Problem are shown to the
// client; of all others it hears that the server failed.
type Service interface {
	// Job returns a job that the caller may read.
	Job(ctx context.Context, id string) (*Job, error)
	// Submit stores a job.
	Submit(ctx context.Context, in *JobInput) (*Submitted, error)
	// Cancel asks for the end of a job and returns it as it is then.
	Cancel(ctx context.Context, id, reason string) (*Job, error)
	// Events sends a job's events to a channel, which it closes behind the last one, or
	// when ctx ends.
	Events(ctx context.Context, of Selection) (<-chan *Event, error)
}

// Selection says which events a subscription wants.
type Selection struct {
	Job   string
	After string   // exclusive; "": from the first, unless the transport knows better
	Types []string // nil: all
}

// Job is a job as a client sees it. It is read from the JSON that REST answers with, so
// that it has the same values.
type Job struct {
	ID                string   `json:"id"`
	Kind              string   `json:"kind"`
	Status            string   `json:"status"`
	Attempt           int32    `json:"attempt"`
	MaxAttempts       int32    `json:"max_attempts"`
	Priority          string   `json:"priority"`
	Key               *string  `json:"key"`
	Tags              []string `json:"tags"`
	Batch             *string  `json:"batch"`
	QueuePosition     *int32   `json:"queue_position"`
	CreatedAt         *string  `json:"created_at"`
	RunAt             *string  `json:"run_at"`
	StartedAt         *string  `json:"started_at"`
	FinishedAt        *string  `json:"finished_at"`
	ExpiresAt         *string  `json:"expires_at"`
	CancelRequestedAt *string  `json:"cancel_requested_at"`
	Progress          JSON     `json:"progress"`
	Result            JSON     `json:"result"`
	Error             JSON     `json:"error"`
	Cursor            string   `json:"cursor"`
	Links             *Links   `json:"links"`
}

// Links are where a job is found over REST.
type Links struct {
	Self   string `json:"self"`
	Events string `json:"events"`
	Result string `json:"result"`
	Cancel string `json:"cancel"`
}

// JobInput is what a submit asks for. Its JSON is the body of a submit over REST, but for the
// input.
type JobInput struct {
	Kind           string                  `json:"kind"`
	Input          graphql.Omittable[JSON] `json:"-"` // written by itself: encoding/json would not leave it as it is
	Tags           []string                `json:"tags,omitempty"`
	Priority       *string                 `json:"priority,omitempty"`
	MaxAttempts    *int32                  `json:"max_attempts,omitempty"`
	Timeout        *string                 `json:"timeout,omitempty"`
	Retention      *string                 `json:"retention,omitempty"`
	StartTimeout   *string                 `json:"start_timeout,omitempty"`
	Deadline       *string                 `json:"deadline,omitempty"`
	RunAt          *string                 `json:"run_at,omitempty"`
	Delay          *string                 `json:"delay,omitempty"`
	Webhook        *WebhookInput           `json:"webhook,omitempty"`
	IdempotencyKey *string                 `json:"-"` // a header of REST
}

// WebhookInput is where events are sent.
type WebhookInput struct {
	URL    string   `json:"url"`
	Events []string `json:"events,omitempty"`
}

// Submitted is the answer to a submit.
type Submitted struct {
	Job      *Job
	Token    string
	Replayed bool
}

// Event is an event as a client sees it, read from the object that every transport has.
type Event struct {
	ID      *string `json:"id"`
	Seq     int32   `json:"seq"`
	Type    string  `json:"type"`
	Job     string  `json:"job"`
	Attempt int32   `json:"attempt"`
	Time    string  `json:"time"`
	Data    JSON    `json:"data"`
	Object  JSON    `json:"-"`
}

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// Kind is a kind of work that can be submitted, as the server describes it.
type Kind struct {
	Name        string          `json:"name"`
	Worker      string          `json:"worker"` // who does it: exec, http, func, pull or route
	Description string          `json:"description"`
	Input       json.RawMessage `json:"input"`  // JSON Schema; null: anything
	Result      json.RawMessage `json:"result"` // JSON Schema; null: not said
	Limits      KindLimits      `json:"limits"`
	Queue       KindQueue       `json:"queue"`

	JSON json.RawMessage `json:"-"` // as the server sent it
}

// KindLimits bound the jobs of a kind.
type KindLimits struct {
	Timeout     string `json:"timeout"` // of an attempt; as SubmitOptions has it in the form of time.Duration
	MaxAttempts int    `json:"max_attempts"`
	Retention   string `json:"retention"` // of a job that is over
	Concurrency int    `json:"concurrency"`
	Queue       int    `json:"queue"` // jobs that may wait
	Input       int64  `json:"input"` // bytes
}

// KindQueue is how much of a kind there is to do.
type KindQueue struct {
	Queued  int `json:"queued"`
	Running int `json:"running"`
}

// UnmarshalJSON reads a kind and keeps its bytes.
func (k *Kind) UnmarshalJSON(b []byte) error {
	type plain Kind
	if err := json.Unmarshal(b, (*plain)(k)); err != nil {
		return err
	}
	k.JSON = bytes.Clone(b)
	return nil
}

// Kinds returns what can be submitted, by name.
func (c *Client) Kinds(ctx context.Context) ([]*Kind, error) {
	req, err := c.request(ctx, http.MethodGet, nil, "v1", "kinds")
	if err != nil {
		return nil, err
	}
	var all struct {
		Kinds []*Kind `json:"kinds"`
	}
	if err := c.object(req, &all); err != nil {
		return nil, err
	}
	return all.Kinds, nil
}

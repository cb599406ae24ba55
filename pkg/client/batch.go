package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/millstream/millstream/pkg/job"
)

// Batch is what became of jobs that were submitted together.
type Batch struct {
	ID    string      `json:"batch"`
	Token string      `json:"token"` // reads all of its jobs
	Jobs  []Submitted `json:"jobs"`  // in the order in which they were submitted

	JSON json.RawMessage `json:"-"` // the object as it was received
}

// Submitted is what became of one job of a batch: it is there, or Problem says why not.
type Submitted struct {
	Job     *Job
	Problem *job.Problem
}

// UnmarshalJSON reads the object and keeps it in b.JSON.
func (b *Batch) UnmarshalJSON(text []byte) error {
	type plain Batch
	if err := json.Unmarshal(text, (*plain)(b)); err != nil {
		return err
	}
	b.JSON = bytes.Clone(text)
	return nil
}

// UnmarshalJSON reads a job or a problem: what has an id is a job.
func (s *Submitted) UnmarshalJSON(text []byte) error {
	var is struct {
		ID job.ID `json:"id"`
	}
	if err := json.Unmarshal(text, &is); err != nil {
		return err
	}
	if is.ID == "" {
		s.Problem = new(job.Problem)
		return json.Unmarshal(text, s.Problem)
	}
	s.Job = new(Job)
	return json.Unmarshal(text, s.Job)
}

// maxBatchAnswer bounds what is read of the answer to a batch: a thousand jobs, each with
// an error of several attempts.
const maxBatchAnswer = 64 << 20

// SubmitBatch submits up to job.MaxBatch jobs at once. Each of the lines is one, as an
// object that holds its "kind", its "input" and its options; empty ones count for nothing.
// The error is that of the batch as a whole: of jobs that were refused each has its own.
//
// A key, if it is not empty, makes it one that can be repeated: for 24 hours the same jobs
// with the same key are the same batch, and those of it that could not be stored are then.
// If the answer was lost it is sent again, as by Submit.
func (c *Client) SubmitBatch(ctx context.Context, lines io.Reader, key string) (*Batch, error) {
	req, err := c.request(ctx, http.MethodPost, lines, "v1", "jobs")
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	b := new(Batch)
	err = c.once(req, key, func(req *http.Request) error { return c.objectOf(req, b, maxBatchAnswer) })
	if err != nil {
		return nil, err
	}
	if b.ID == "" {
		return nil, fmt.Errorf("answer of %s is not a batch", req.URL.Redacted())
	}
	return b, nil
}

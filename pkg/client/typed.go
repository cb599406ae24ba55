package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/millstream/millstream/pkg/job"
)

// maxTyped bounds a result that is held in memory to be decoded; of a larger one Result
// has the bytes.
const maxTyped = 64 << 20

// ResultAs returns the result of a job that succeeded, which must be JSON, as a T. Its errors
// are those of Result, and those of a result that is no T.
func ResultAs[T any](ctx context.Context, c *Client, id job.ID) (v T, err error) {
	r, err := c.Result(ctx, id)
	if err != nil {
		return v, err
	}
	defer r.Body.Close()
	if !job.IsJSON(r.Type) {
		return v, fmt.Errorf("the result of %s is %s, not JSON", id, r.Type)
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxTyped+1))
	switch {
	case err != nil:
		return v, err
	case len(b) > maxTyped:
		return v, fmt.Errorf("the result of %s has more than %d MiB", id, maxTyped>>20)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("the result of %s: %w", id, err)
	}
	return v, nil
}

// Call submits input as JSON, waits for the end of the job, whatever becomes of the
// connections meanwhile, and returns its result as a T. The error of a job that failed or was
// canceled is its *job.Problem. If ctx ends, the job goes on; with a Key in the options,
// the same Call finds it again.
func Call[T any](ctx context.Context, c *Client, kind string, input any, o *SubmitOptions) (v T, err error) {
	body, err := json.Marshal(input)
	if err != nil {
		return v, fmt.Errorf("input: %w", err)
	}
	var own SubmitOptions
	if o != nil {
		own = *o
	}
	own.ContentType = "application/json"
	j, err := c.Submit(ctx, kind, bytes.NewReader(body), &own)
	if err != nil {
		return v, err
	}
	for _, err := range c.Events(ctx, j.ID, j.Cursor) {
		if err != nil {
			return v, err
		}
	}
	return ResultAs[T](ctx, c, j.ID)
}

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// lastWord returns what is said at the end of an attempt; nothing, if nobody would hear
// it. stopped: the command was ended because we are.
func lastWord(stopped bool, out worker.Outcome, err error) (last job.Said) {
	switch {
	case errors.Is(err, job.ErrLeaseLost):
		return job.Said{}
	case err == nil:
		return lastSuccess(out)
	case stopped:
		return job.Said{Type: job.Queued}
	}
	return lastFailure(err)
}

// lastSuccess says what the result is: bytes, also of JSON, of which a server takes no more
// as a result than it takes as a report.
func lastSuccess(out worker.Outcome) job.Said {
	r := out.Record.Private.Result
	d := map[string]any{"type": r.Type}
	switch {
	case r.Output:
		d["output"] = true
	case r.Type == "" && r.Size == 0:
		return job.Said{Type: job.Succeeded, Data: job.MustData(map[string]any{"result": nil})}
	default:
		d["result"], d["encoding"] = base64.StdEncoding.EncodeToString(out.Piece), "base64"
	}
	return job.Said{Type: job.Succeeded, Data: job.MustData(d)}
}

// lastFailure says what the command, or what runs it, has failed with.
func lastFailure(err error) job.Said {
	d := map[string]any{"detail": err.Error()}
	var p *job.Problem
	if errors.As(err, &p) {
		d["retryable"] = p.Retryable
		switch p.Name() {
		case "exit-status", "invalid-result", "invalid-input", "worker-panic":
			d["type"] = p.Type
		}
	}
	return job.Said{Type: job.Failed, Data: job.MustData(map[string]any{"error": d})}
}

// The end of an attempt is told to a server that is away for longer than a restart takes;
// but who is told to stop has no time.
const (
	lastPatience = 5 * time.Minute
	stopPatience = 5 * time.Second
)

// finish says the last word and returns what is to be told of it.
func (r *reporter) finish(last job.Said) string {
	if last.Type == "" {
		return "is not ours any more: what it came to is not taken"
	}
	patience := lastPatience
	if last.Type == job.Queued {
		patience = stopPatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err, why := r.report(ctx, last), ""
	if last.Type == job.Succeeded && r.refuses(err) { // nor would it take that of the next attempt
		p := job.Problemf("invalid-result", "the server does not take the result: %v", err)
		last, why = lastFailure(p), ": "+p.Detail
		err = r.report(ctx, last)
	}
	if err != nil {
		return fmt.Sprintf("is over, but that was not taken: %v", err)
	}
	switch last.Type {
	case job.Queued:
		return "is handed back"
	case job.Failed:
		return "failed" + why
	}
	return "succeeded"
}

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// reporter is the Sink of an attempt whose store is a server: what the command says is
// said there, and so what the server takes is the pace of both.
type reporter struct {
	*puller
	lease  *client.Lease
	end    context.CancelCauseFunc // ends the command
	length int64                   // of the output
	events int
	bytes  int64
}

func (r *reporter) attempt() worker.Attempt {
	j := &r.lease.Job
	return worker.Attempt{
		Job: job.Job{
			ID: j.ID, Kind: j.Kind, Status: j.Status, Attempt: j.Attempt, MaxAttempts: j.MaxAttempts,
			Request: &job.Request{Timeout: max(r.lease.Timeout, time.Second)},
		},
		Input: r.lease.Input, Upload: r.lease.Upload, InputType: r.lease.InputType, Sink: r,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return r.server.OpenInput(ctx, r.lease) },
	}
}

// beat says, each third of the lease, that the command is at work, until ctx ends or the
// lease is lost.
func (r *reporter) beat(ctx context.Context) {
	for {
		select {
		case <-time.After(max(r.lease.Life/3, time.Second/4)):
		case <-ctx.Done():
			return
		}
		if err := r.report(ctx); err != nil {
			r.end(err)
			return
		}
	}
}

// report says events, until they are stored, or it is certain that they will not be.
func (r *reporter) report(ctx context.Context, events ...job.Said) error {
	return r.insist(ctx, func() error {
		standing, err := r.server.Report(ctx, r.lease, events...)
		if err == nil && standing.Cancel {
			r.end(job.ErrCanceled)
		}
		return err
	})
}

// maxReport is how many events one report may have.
const maxReport = 1000

// Append says what the command says.
func (r *reporter) Append(ctx context.Context, recs ...job.Record) error {
	for len(recs) > 0 {
		n := min(len(recs), maxReport)
		events := make([]job.Said, n)
		length := r.length
		for i := range n {
			events[i] = job.Said{Type: recs[i].Type, Data: recs[i].Data}
			if recs[i].Type == job.Output {
				events[i].Data = placed(recs[i].Data, &length)
			}
			r.bytes += int64(len(recs[i].Data))
		}
		if err := r.report(ctx, events...); err != nil {
			return err
		}
		r.length = length
		r.events += n
		recs = recs[n:]
	}
	return nil
}

// placed says where in the output a chunk belongs: one that is said again, because its
// answer was lost, is not there twice.
func placed(data json.RawMessage, length *int64) json.RawMessage {
	var d struct {
		Chunk    string `json:"chunk"`
		Encoding string `json:"encoding,omitempty"`
		Offset   int64  `json:"offset"`
	}
	_ = json.Unmarshal(data, &d) // ours
	d.Offset = *length
	n := len(d.Chunk)
	if d.Encoding != "" {
		b, _ := base64.StdEncoding.DecodeString(d.Chunk)
		n = len(b)
	}
	*length += int64(n)
	return job.MustData(d)
}

// Attach would keep a piece of a large result.
func (r *reporter) Attach(context.Context, []byte) error {
	return job.Problemf("invalid-result", "a result of more than %d bytes has to be written as output: --stdout lines", worker.MaxPiece)
}

// Used returns how much was said.
func (r *reporter) Used() (events int, bytes int64) { return r.events, r.bytes }

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

func lastSuccess(out worker.Outcome) job.Said {
	r := out.Record.Private.Result
	d := map[string]any{"type": r.Type}
	switch {
	case r.Output:
		d["output"] = true
	case job.IsJSON(r.Type) && json.Valid(out.Piece):
		d["result"] = json.RawMessage(out.Piece)
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
	if err := r.report(ctx, last); err != nil {
		return fmt.Sprintf("is over, but that was not taken: %v", err)
	}
	switch last.Type {
	case job.Queued:
		return "is handed back"
	case job.Failed:
		return "failed"
	}
	return "succeeded"
}

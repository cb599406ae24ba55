package main

import (
	"context"
	"errors"
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
	room   int                     // bytes of a report, if the server takes less than is usual; 0: it does not
	events int
	bytes  int64
}

// runCommand has the command do the work.
func (r *reporter) runCommand(ctx context.Context) (worker.Outcome, error) {
	a, err := r.attempt(ctx)
	if err != nil {
		return worker.Outcome{}, err
	}
	return worker.Run(ctx, r.exec.Func(), a, worker.Options{Limits: unlimited})
}

// attempt returns the attempt as one that a server runs itself: with the exact bytes of
// its input.
func (r *reporter) attempt(ctx context.Context) (worker.Attempt, error) {
	if r.lease.Upload == nil {
		if err := r.insist(ctx, func() error { return r.readInput(ctx) }); err != nil {
			return worker.Attempt{}, err
		}
	}
	j := &r.lease.Job
	return worker.Attempt{
		Job: job.Job{
			ID: j.ID, Kind: j.Kind, Status: j.Status, Attempt: j.Attempt, MaxAttempts: j.MaxAttempts,
			Request: &job.Request{Timeout: max(r.lease.Timeout, time.Second)},
		},
		Input: r.lease.Input, Upload: r.lease.Upload, InputType: r.lease.InputType, Sink: r,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return r.server.OpenInput(ctx, r.lease) },
	}, nil
}

func (r *reporter) readInput(ctx context.Context) error {
	in, err := r.server.OpenInput(ctx, r.lease)
	if err != nil {
		return err
	}
	defer in.Close()
	b, err := io.ReadAll(in)
	if err == nil {
		r.lease.Input = b
	}
	return err
}

// unlimited is what a command may say here: the server has the limits, and says in the job's
// result what they have cut.
var unlimited = worker.Limits{Events: 1 << 40, Bytes: 1 << 50}

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

// statusOf returns the status of the answer that err is; 0: it is none.
func statusOf(err error) int {
	var p *job.Problem
	if !errors.As(err, &p) {
		return 0
	}
	return p.Status
}

// refuses reports whether err says that the server will never take what was said. That the
// lease is lost is another matter: it takes nothing.
func (r *reporter) refuses(err error) bool {
	status := statusOf(err)
	return status >= 400 && status < 500 && !errors.Is(err, job.ErrLeaseLost) && !r.server.Passing(err)
}

// Attach would keep a piece of a large result.
func (r *reporter) Attach(context.Context, []byte) error {
	return job.Problemf("invalid-result", "a result of more than %d bytes has to be written as output: --stdout lines", worker.MaxPiece)
}

// Used returns how much was said.
func (r *reporter) Used() (events int, bytes int64) { return r.events, r.bytes }

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// follow shows a job's events to its end and returns the last one; it is nil if
// there was none behind after.
func (r *remote) follow(ctx context.Context, id job.ID, after string, s screen) (last *client.Event, err error) {
	for e, err := range r.Events(ctx, id, after) {
		if err != nil {
			return last, err
		}
		if err := s.show(&e); err != nil {
			return last, err
		}
		last = &e
	}
	return last, nil
}

// statuses has the end that each terminal event is.
var statuses = map[job.Type]job.Status{
	job.Succeeded: job.StatusSucceeded,
	job.Failed:    job.StatusFailed,
	job.Canceled:  job.StatusCanceled,
}

// ending returns how a job ended of which last was the last event; if that was
// seen before, the job itself tells.
func (r *remote) ending(ctx context.Context, id job.ID, last *client.Event) (job.Status, error) {
	if last != nil && last.Type.Terminal() {
		return statuses[last.Type], nil
	}
	j, err := r.Job(ctx, id)
	if err != nil {
		return "", err
	}
	return j.Status, nil
}

// followOne shows one job to its end, its output and result on out and the rest
// on status, or its events on out as they come. The error stands for how it
// ended.
func (r *remote) followOne(ctx context.Context, id job.ID, after string, asJSON bool, out, status io.Writer) error {
	o := &output{w: out}
	var s screen = newConsole(o, status)
	if asJSON {
		s = &jsonLines{w: out}
	}
	last, err := r.follow(ctx, id, after, s)
	s.close()
	if err != nil {
		return r.interrupted(status, id, last, err)
	}
	end, err := r.ending(ctx, id, last)
	if err != nil {
		return r.fault(err)
	}
	if end == job.StatusSucceeded && last != nil && !asJSON {
		if err := o.result(ctx, r.Client, id, last); err != nil {
			return r.fault(err)
		}
	}
	return ofStatus(end)
}

// errNotOver is the cause of a watch that took longer than it may.
var errNotOver = errors.New("the job is not over yet")

// interrupted says how to take up a watch again that ended before its job.
func (r *remote) interrupted(w io.Writer, id job.ID, last *client.Event, err error) error {
	again := "millstream watch " + string(id)
	if last != nil {
		again += " --after " + last.ID
	}
	switch {
	case errors.Is(err, errNotOver):
		return &exitError{exitNotOver, fmt.Errorf("%w; it goes on: %s", errNotOver, again)}
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(w, "The job goes on: %s\n", again)
	}
	return r.fault(err)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// follow shows a job's events to its end and returns the last one; it is nil if
// there was none.
func (r *remote) follow(events iter.Seq2[client.Event, error]) (last *client.Event, err error) {
	for e, err := range events {
		if err != nil {
			return last, err
		}
		if err := r.screen.show(&e); err != nil {
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

// view is what a command shows of one job.
type view int

const (
	viewAll    view = iota // its output and its result, and what becomes of it beside them
	viewEvents             // each event as its JSON object
	viewResult             // once it is over, its result
	viewJob                // once it is over, its JSON object
)

// following is a way to follow one job to its end.
type following struct {
	view   view
	after  string        // the event to begin behind; empty: the first
	within time.Duration // how long to wait for the end; 0: for ever

	submit func(context.Context) iter.Seq2[client.Event, error] // the job, which does not outlive this; nil: it is there
}

// followOne shows one job to its end, on out what it made and on status the rest.
// The error stands for how it ended.
func (r *remote) followOne(ctx context.Context, id job.ID, f following, out, status io.Writer) error {
	o := &output{w: out}
	r.screen = f.screen(o, status)
	last, err := r.followIn(ctx, id, f)
	switch {
	case id == "" && last == nil:
		return r.unanswered(status, err)
	case id == "":
		id = last.Job
	}
	if err != nil {
		return r.interrupted(status, id, f, last, err)
	}
	end, err := r.ending(ctx, id, last)
	if err == nil {
		err = r.finish(ctx, id, f.view, last, end, o, status)
	}
	if err != nil {
		return r.fault(err)
	}
	return ofStatus(end)
}

func (r *remote) followIn(ctx context.Context, id job.ID, f following) (*client.Event, error) {
	defer r.screen.close()
	if f.within > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, f.within, errNotOver)
		defer stop()
	}
	if f.submit != nil {
		return r.follow(f.submit(ctx))
	}
	return r.follow(r.Events(ctx, id, f.after))
}

func (f following) screen(o *output, status io.Writer) screen {
	switch f.view {
	case viewAll:
		return newConsole(o, status)
	case viewEvents:
		return &jsonLines{w: o.w}
	}
	return nothing{}
}

// finish shows what there is to show of a job once it is over.
func (r *remote) finish(ctx context.Context, id job.ID, v view, last *client.Event, end job.Status, o *output, status io.Writer) error {
	switch {
	case v == viewEvents || last == nil:
		return nil
	case v == viewJob:
		j, err := r.Job(ctx, id)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(o.w, "%s\n", j.JSON)
		return err
	case end == job.StatusSucceeded:
		if len(o.wrote) > 1 && !isTerminal(o.w) {
			fmt.Fprintf(status, "The output is that of %d runs. The result alone: %s\n", len(o.wrote), r.again(id, following{view: viewResult}, nil))
		}
		return o.result(ctx, r.Client, id, last)
	case v == viewResult:
		fmt.Fprintf(status, "%s %s\n", id, describe(last))
	}
	return nil
}

// errNotOver is the cause of a watch that took longer than it may.
var errNotOver = errors.New("the job is not over yet")

// interrupted says how to take up a watch again that ended before its job.
func (r *remote) interrupted(w io.Writer, id job.ID, f following, last *client.Event, err error) error {
	again := r.again(id, f, last)
	goesOn := "goes on"
	if f.submit != nil {
		goesOn = "is asked to end in ten seconds"
	}
	switch {
	case errors.Is(err, errNotOver):
		return &exitError{exitNotOver, fmt.Errorf("%w; it %s: %s", errNotOver, goesOn, again)}
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(w, "The job %s: %s\n", goesOn, again)
	case last != nil && !errors.Is(err, job.ErrNotFound) && !errors.As(err, new(*exitError)):
		return &exitError{exitServer, fmt.Errorf("%w\nThe job may go on: %s", inPlainWords(r.address, err), again)}
	}
	return r.fault(err)
}

// again returns the command that goes on where a watch ended.
func (r *remote) again(id job.ID, f following, last *client.Event) string {
	command := "millstream watch" + r.flags
	switch f.view {
	case viewEvents:
		command += " --json"
	case viewResult:
		return command + " --result " + string(id)
	case viewJob:
		return command + " " + string(id)
	}
	command += " " + string(id)
	if last != nil {
		command += " --after " + last.ID
	}
	return command
}

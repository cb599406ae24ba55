package handlers

import (
	"context"
	"errors"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// resubmit answers POST /v1/jobs/{id}/retry: a new job with the input and the options of one
// that is over, as a submit. It begins at once, and a deadline is as far away as the first
// job's was.
func (a *API) resubmit(c *gin.Context) error {
	if err := nothingAsked(c); err != nil {
		return err
	}
	j, err := a.lookup(c)
	if err != nil {
		return err
	}
	if !j.Status.Over() {
		return job.Problemf("in-progress", "The job is not over; cancel it first.")
	}
	k, err := a.kindNamed(j.Kind)
	if err != nil {
		return err
	}
	r, err := a.Store.Request(c.Request.Context(), j.ID)
	if err != nil {
		return a.unlessLost(c.Request.Context(), j.ID, err)
	}
	if (r.Call != nil) != (k.route != nil) {
		return job.Problemf("invalid-request", "The kind is served in another way by now: this is no request for it any more.")
	}
	o := &options{retryOf: j.ID}
	if u := r.Upload; u != nil { // which goes with its job: the new one gets one of its own
		switch { // by the kind's rules of now, and before it is copied for nothing
		case u.Size > k.MaxInput:
			return tooLarge(k.MaxInput)
		case k.input != nil:
			return job.Problemf("invalid-input", "The kind takes JSON by now, and the first job's input is %s.", r.InputType)
		}
		ctx := c.Request.Context()
		old := a.Store.OpenUpload(ctx, r.Upload)
		defer old.Close()
		o.large = told{old, func(err error) error { return a.unlessGone(ctx, j.ID, err) }}
	}
	fresh := afresh(r, k, &j)
	if r.Call != nil {
		if fresh.Call, err = k.route.again(r.Call); err != nil {
			return err
		}
	}
	if err := a.sendable(fresh); err != nil {
		return err
	}
	return a.store(c, k, o, fresh, "/input")
}

// unlessGone returns the error of reading what lies beside a job, which goes with it: of one
// that expired, or was erased, meanwhile, that is no damage.
func (a *API) unlessGone(ctx context.Context, id job.ID, err error) error {
	if _, gone := a.find(ctx, id); errors.Is(gone, errNoJob) {
		return gone
	}
	return a.unlessLost(ctx, id, err)
}

// afresh returns what a job was asked for as a request of now, within the kind's rules of
// now.
func afresh(r *job.Request, k *kind, j *job.Job) *job.Request {
	fresh := &job.Request{
		Kind: k.Name, Owner: r.Owner, Input: r.Input, InputType: r.InputType, Tags: r.Tags, Priority: r.Priority,
		MaxAttempts: r.MaxAttempts, Timeout: min(r.Timeout, k.Timeout), Retention: r.Retention, StartTimeout: r.StartTimeout,
		Webhook: r.Webhook, Metadata: r.Metadata,
	}
	if !r.Deadline.IsZero() {
		fresh.Deadline = time.Now().Add(r.Deadline.Sub(j.CreatedAt)).UTC().Truncate(time.Millisecond)
	}
	return fresh
}

// nothingAsked fails on options, wherever they stand: they would be ignored.
func nothingAsked(c *gin.Context) error {
	if err := optionsElsewhere(c.Request); err != nil {
		return job.Problemf("invalid-request", "A retry takes no options: the new job has those of the first.")
	}
	doc, err := body(c, maxCancelBody)
	if err != nil || len(doc) == 0 {
		return err
	}
	return job.Problemf("invalid-request", "The body must be empty: the new job has the options of the first.")
}

package handlers

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// errNoJob is the one answer for a job that never was, is no more, or is
// somebody else's.
var errNoJob = job.Problemf("not-found", "There is no job with this id that you may read.")

// job answers GET /v1/jobs/{id}: the job now, or with Prefer: wait=n as soon as
// it is another than the client has.
func (a *API) job(c *gin.Context) error {
	j, err := a.lookup(c)
	if err != nil {
		return err
	}
	p, known := preferencesOf(c.Request.Header), listOf(c.Request.Header, "If-None-Match")
	body, err := job.JSON(a.represent(&j))
	if err != nil {
		return err
	}
	if want := listOf(c.Request.Header, "If-Match"); want != "" && !hasTag(want, etag(body)) {
		return job.Problemf("precondition-failed", "The job is not, or no longer, as the If-Match header names it.")
	}
	if p.waits && (known == "" || matches(known, etag(body))) {
		j, p.waits = a.awaitChange(c, j, p.wait)
		if body, err = job.JSON(a.represent(&j)); err != nil {
			return err
		}
	}
	p.applied(c, true)
	private(c)
	tag := etag(body)
	c.Header("ETag", tag)
	if matches(known, tag) {
		return sendNothing(c, http.StatusNotModified)
	}
	return send(c, http.StatusOK, jsonType, body)
}

// hasTag reports whether a list of entity tags has the tag, by strong comparison (RFC
// 9110 13.1.1), as it is asked for by If-Match.
func hasTag(list, tag string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if t = strings.TrimSpace(t); t == "*" || t == tag {
			return true
		}
	}
	return false
}

// matches does so by weak comparison, for If-None-Match.
func matches(list, tag string) bool { return hasTag(list, tag) || hasTag(list, "W/"+tag) }

// lookup returns the job that the request names, if it may read it. What cannot
// be an id goes no further.
func (a *API) lookup(c *gin.Context) (job.Job, error) {
	claims, limited := claimsOf(c)
	return a.findFor(c.Request.Context(), caller{claims, limited}, c.Param("id"))
}

// findFor returns the job with this id, if the caller may read it.
func (a *API) findFor(ctx context.Context, who caller, id string) (job.Job, error) {
	if !job.ValidID(id) || who.limited && !who.claims.Reads(job.ID(id)) {
		return job.Job{}, errNoJob
	}
	j, err := a.find(ctx, job.ID(id))
	if err == nil && who.limited && who.claims.Owner != j.Owner {
		err = errNoJob
	}
	if err != nil {
		return job.Job{}, err
	}
	return j, nil
}

// find returns a job that is still kept.
func (a *API) find(ctx context.Context, id job.ID) (job.Job, error) {
	j, err := a.Jobs.Job(ctx, id)
	if err != nil {
		return job.Job{}, orNoJob(err)
	}
	if j.Expired(time.Now()) {
		return job.Job{}, errNoJob
	}
	return j, nil
}

// unlessLost returns the error of reading a job that lookup has found. If it is still
// there and the log knows nothing of it, some of what is stored was lost: its readers
// must not take it for one that expired.
func (a *API) unlessLost(ctx context.Context, id job.ID, err error) error {
	if !errors.Is(err, job.ErrNotFound) {
		return err
	}
	if _, gone := a.find(ctx, id); gone != nil {
		return gone
	}
	a.Log.Error("stored events are missing", zap.String("job", string(id)), zap.Error(err))
	return job.Problemf("storage-unavailable", "Some of what is stored of this job cannot be read.")
}

// orNoJob returns err, but every "not found" in the same words.
func orNoJob(err error) error {
	if errors.Is(err, job.ErrNotFound) {
		return errNoJob
	}
	return err
}

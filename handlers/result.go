package handlers

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// result answers GET /v1/jobs/{id}/result: the bytes, once there are any.
func (a *API) result(c *gin.Context) error {
	j, err := a.lookup(c)
	if err != nil {
		return err
	}
	p := preferencesOf(c.Request.Header)
	j, ok := a.awaitEnd(c, j, p.wait)
	p.waits = p.waits && ok
	p.applied(c, j.Status.Over())
	switch j.Status {
	case job.StatusSucceeded:
		return a.sendResult(c, j)
	case job.StatusFailed:
		return jobError{job.Problemf("job-failed", "See the error."), outputOf(&j).Error}
	case job.StatusCanceled:
		return job.Problemf("job-canceled", "%s", outputOf(&j).Reason)
	}
	c.Header("Retry-After", pollAfter)
	return a.sendJob(c, http.StatusAccepted, &j, "")
}

// sendResult answers with the result, or the part of it that the request asks for.
func (a *API) sendResult(c *gin.Context, j job.Job) error {
	bytes, err := a.Store.Result(c.Request.Context(), j)
	if err != nil {
		return orNoJob(err)
	}
	defer bytes.Close()
	private(c)
	c.Header("Content-Type", unknownType)
	if j.Result != nil {
		c.Header("Content-Type", j.Result.Type)
		c.Header("ETag", `"`+j.Result.SHA256+`"`)
	}
	c.Header("Content-Security-Policy", "sandbox") // a page that a worker wrote is not a page of ours
	w := &partial{writer: newWriter(c)}
	http.ServeContent(w, c.Request, "", j.FinishedAt, bytes)
	return w.refusal
}

// partial lets http.ServeContent refuse a request in our words: what it says to
// a range or a precondition becomes an error.
type partial struct {
	*writer
	refusal error
}

// WriteHeader takes the status, unless it is a refusal.
func (w *partial) WriteHeader(status int) {
	switch {
	case status < http.StatusBadRequest:
		w.writer.WriteHeader(status)
	case status == http.StatusRequestedRangeNotSatisfiable:
		w.refusal = job.Problemf("range-not-satisfiable", "")
	case status == http.StatusPreconditionFailed:
		w.refusal = job.Problemf("precondition-failed", "")
	default:
		w.refusal = fmt.Errorf("result: %s", http.StatusText(status)) // it cannot be read
	}
}

// Write drops the text of a refusal.
func (w *partial) Write(b []byte) (int, error) {
	if w.refusal != nil {
		return len(b), nil
	}
	return w.writer.Write(b)
}

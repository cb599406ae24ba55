package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

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
	switch {
	case j.Status == job.StatusSucceeded:
		return a.sendResult(c, j)
	case j.Status.Over():
		return withoutResult(&j)
	}
	c.Header("Retry-After", pollAfter)
	return a.sendJob(c, http.StatusAccepted, &j, "")
}

// withoutResult is the problem of a job that is over and has no result.
func withoutResult(j *job.Job) error {
	if j.Status == job.StatusCanceled {
		return job.Problemf("job-canceled", "%s", outputOf(j).Reason)
	}
	return jobError{job.Problemf("job-failed", "See the error."), outputOf(j).Error}
}

// sendResult answers with the result, or the part of it that the request asks for.
func (a *API) sendResult(c *gin.Context, j job.Job) error {
	bytes, err := a.Store.Result(c.Request.Context(), j)
	if err != nil {
		return a.unlessLost(c.Request.Context(), j.ID, err)
	}
	defer bytes.Close()
	if j.Result != nil && j.Result.Answer != nil {
		return a.replay(c, &j, bytes)
	}
	what := content{job: j.ID, changed: j.FinishedAt, mediaType: unknownType}
	if r := j.Result; r != nil {
		what.mediaType, what.sha256, what.size = r.Type, r.SHA256, r.Size
	}
	return a.sendContent(c, what, bytes)
}

// content is what there is to know of bytes that a job has.
type content struct {
	job       job.ID
	mediaType string
	sha256    string // "": not known
	size      int64
	changed   time.Time
}

// sendContent answers with the bytes, or the part of them that the request asks for.
func (a *API) sendContent(c *gin.Context, what content, bytes io.ReadSeekCloser) error {
	private(c)
	c.Header("Content-Type", what.mediaType)
	if what.sha256 != "" {
		c.Header("ETag", `"`+what.sha256+`"`)
	}
	c.Header("Content-Security-Policy", "sandbox") // a page that somebody else wrote is not a page of ours
	return a.serveContent(c, what, bytes)
}

// serveContent answers with the bytes, whose headers are set.
func (a *API) serveContent(c *gin.Context, what content, bytes io.ReadSeekCloser) error {
	w := &partial{writer: newWriter(c)}
	r := &watched{ReadSeekCloser: bytes, failed: make(chan error, 1)}
	http.ServeContent(w, forServeContent(c.Request), "", what.changed, r)
	if w.refusal != nil {
		if what.sha256 != "" && errors.Is(w.refusal, errRange) {
			c.Header("Content-Range", fmt.Sprintf("bytes */%d", what.size)) // also where http.ServeContent could not read the range
		}
		return w.refusal
	}
	return a.unread(c, what.job, r)
}

// unread is the end of an answer whose bytes could not all be read: a problem if
// none of them was sent, else a connection that is cut. The reader must not take
// what it got for the whole.
func (a *API) unread(c *gin.Context, id job.ID, r *watched) error {
	var err error
	select {
	case err = <-r.failed:
	default:
		return nil
	}
	switch {
	case !c.Writer.Written():
		for _, name := range []string{"Accept-Ranges", "Content-Range", "Last-Modified"} {
			c.Writer.Header().Del(name)
		}
		return a.unlessLost(c.Request.Context(), id, err)
	case c.Request.Context().Err() != nil:
		return errReaderGone
	}
	a.Log.Error("answer cut short", zap.String("job", string(id)), zap.Error(err))
	panic(http.ErrAbortHandler)
}

// watched notes the first error of a read, which http.ServeContent keeps to itself.
// Several ranges are read in a goroutine that may be there a moment longer.
type watched struct {
	io.ReadSeekCloser
	failed chan error // holds one
}

// Read reads on.
func (r *watched) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p)
	if err != nil && err != io.EOF {
		select {
		case r.failed <- err:
		default:
		}
	}
	return n, err
}

var errRange = job.Problemf("range-not-satisfiable", "")

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
		w.refusal = errRange
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

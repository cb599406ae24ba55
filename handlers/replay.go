package handlers

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// replay answers with the answer that is a job's result: its status, headers and bytes. Of a
// 200 a part may be asked for, as of any result; any other goes out whole.
func (a *API) replay(c *gin.Context, j *job.Job, bytes io.ReadSeekCloser) error {
	names := a.answerHeaders(c, j)
	if j.Result.Answer.Status != http.StatusOK {
		return names.unless(c, a.copyAnswer(c, j, bytes))
	}
	h := c.Writer.Header()
	if h.Get("ETag") == "" {
		h.Set("ETag", `"`+j.Result.SHA256+`"`)
		names = append(names, "ETag")
	}
	changed, _ := http.ParseTime(h.Get("Last-Modified")) // else there is no such time
	what := content{job: j.ID, sha256: j.Result.SHA256, size: j.Result.Size, changed: changed}
	return names.unless(c, a.serveContent(c, what, bytes))
}

// headerNames are headers that do not belong on a problem.
type headerNames []string

// unless removes them if there is an error that can still be told.
func (n headerNames) unless(c *gin.Context, err error) error {
	if err != nil && !c.Writer.Written() {
		for _, name := range n {
			c.Writer.Header().Del(name)
		}
	}
	return err
}

// kept are headers of ours that an upstream does not change: the address may hold a token.
var kept = []string{"Referrer-Policy", "X-Content-Type-Options"}

// stale reports whether a header of an answer says how long it may be kept, which is for us to
// say. There are those that one kind of cache only obeys, and takes for more than the others
// (RFC 9213).
func stale(name string) bool {
	switch name {
	case "Age", "Cache-Control", "Expires", "Pragma", "Edge-Control", "Surrogate-Control", "X-Accel-Expires":
		return true
	}
	return strings.HasSuffix(name, "-Cache-Control")
}

// answerHeaders sets the headers of the answer that is the job's result, and returns them.
func (a *API) answerHeaders(c *gin.Context, j *job.Job) (names headerNames) {
	h := c.Writer.Header()
	for name, values := range j.Result.Answer.Header {
		if slices.Contains(kept, name) || stale(name) || name == "Content-Length" {
			continue
		}
		names = append(names, name)
		h[name] = append(h[name], values...)
	}
	if h["Content-Type"] == nil {
		h["Content-Type"] = nil // net/http would guess
	}
	h.Set("Millstream-Job", string(j.ID))
	h.Add("Content-Security-Policy", "sandbox") // a page that somebody else wrote is not a page of ours
	if bodyAllowed(j.Result.Answer.Status) {
		h.Set("Content-Length", strconv.FormatInt(j.Result.Size, 10)) // http.ServeContent leaves it out of what is encoded
	}
	private(c)
	return append(names, "Content-Length", "Content-Security-Policy", "Millstream-Job", "Content-Type")
}

// bodyAllowed reports whether an answer with the status may have a body (RFC 9110, 6.4.1).
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// copyAnswer answers with the whole of the answer.
func (a *API) copyAnswer(c *gin.Context, j *job.Job, bytes io.ReadSeekCloser) error {
	w, status := newWriter(c), j.Result.Answer.Status
	if c.Request.Method == http.MethodHead || !bodyAllowed(status) || j.Result.Size == 0 {
		return sendNothing(c, status)
	}
	r := &watched{ReadSeekCloser: bytes, failed: make(chan error, 1)}
	first := make([]byte, 1) // what cannot be read is better told before the answer begins
	if _, err := io.ReadFull(r, first); err == nil {
		c.Status(status)
		if _, err := w.Write(first); err != nil {
			return err
		}
		if _, err := io.Copy(writeOnly{w}, r); err != nil && len(r.failed) == 0 {
			return err
		}
	}
	return a.unread(c, j.ID, r)
}

// writeOnly hides from io.Copy what else a writer can do.
type writeOnly struct{ io.Writer }

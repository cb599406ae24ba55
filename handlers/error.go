package handlers

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// statuses is the one table from problems to status codes.
var statuses = map[string]int{
	"invalid-request":       http.StatusBadRequest,
	"unauthenticated":       http.StatusUnauthorized,
	"forbidden":             http.StatusForbidden,
	"cross-origin":          http.StatusForbidden,
	"not-found":             http.StatusNotFound,
	"method-not-allowed":    http.StatusMethodNotAllowed,
	"in-progress":           http.StatusConflict,
	"lease-lost":            http.StatusConflict,
	"job-failed":            http.StatusConflict,
	"job-canceled":          http.StatusConflict,
	"precondition-failed":   http.StatusPreconditionFailed,
	"too-large":             http.StatusRequestEntityTooLarge,
	"unsupported-type":      http.StatusUnsupportedMediaType,
	"range-not-satisfiable": http.StatusRequestedRangeNotSatisfiable,
	"wrong-host":            http.StatusMisdirectedRequest,
	"invalid-input":         http.StatusUnprocessableEntity,
	"invalid-batch":         http.StatusUnprocessableEntity,
	"idempotency-mismatch":  http.StatusUnprocessableEntity,
	"rate-limited":          http.StatusTooManyRequests,
	"headers-too-large":     http.StatusRequestHeaderFieldsTooLarge,
	"internal":              http.StatusInternalServerError,
	"job-damaged":           http.StatusInternalServerError,
	"queue-full":            http.StatusServiceUnavailable,
	"upstream-failed":       http.StatusBadGateway,
	"upstream-timeout":      http.StatusGatewayTimeout,
	"draining":              http.StatusServiceUnavailable,
	"storage-unavailable":   http.StatusServiceUnavailable,
	"storage-full":          http.StatusInsufficientStorage,
}

const problemType = "application/problem+json"

// handle turns a route that returns an error into one that Gin can call.
func (a *API) handle(route func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := route(c); err != nil {
			c.Abort()
			a.fail(c, err)
		}
	}
}

// statusGone is what the log has, as nginx's, for a client that left before there
// was an answer.
const statusGone = 499

// fail answers with the error's problem, unless the answer has begun or nobody
// is there to read it. What is no problem of ours is logged and not shown.
func (a *API) fail(c *gin.Context, err error) {
	if p := a.failure(c, err); p != nil {
		var of jobError
		errors.As(err, &of)
		_ = sendProblem(c, p, of.cause) // a reader that is gone needs no second answer
	}
}

// failure returns the problem to answer with; nil: there is no answering.
func (a *API) failure(c *gin.Context, err error) *job.Problem {
	p, ours := problemOf(err)
	switch {
	case c.Writer.Written() && ours, errors.Is(err, errReaderGone):
		return nil
	case !ours && c.Request.Context().Err() != nil: // a body that is late ends the context too, but with a problem
		c.Status(statusGone)
		return nil
	case !ours:
		a.Log.Error("request failed", zap.String("route", c.FullPath()), zap.String("job", c.Param("id")), zap.Error(err))
	}
	if c.Writer.Written() {
		return nil
	}
	return p
}

// problemOf returns the problem that err is, with its status. Any other error is
// an internal one, and ours is false.
func problemOf(err error) (p *job.Problem, ours bool) {
	ours = errors.As(err, &p) && statuses[p.Name()] != 0
	if !ours {
		p = job.Problemf("internal", "")
	}
	c := *p
	c.Status = statuses[p.Name()]
	return &c, ours
}

// jobError is the problem of a job that has no result, with the job's own error
// as its cause.
type jobError struct {
	*job.Problem
	cause json.RawMessage
}

// Unwrap returns the problem, whose status it has.
func (e jobError) Unwrap() error { return e.Problem }

func sendProblem(c *gin.Context, p *job.Problem, cause json.RawMessage) error {
	p.Instance = instance(c.Request.URL)
	problemHeader(c, p)
	return send(c, p.Status, problemType, job.MustData(struct {
		*job.Problem
		Error json.RawMessage `json:"error,omitempty"`
	}{p, cause}))
}

func problemHeader(c *gin.Context, p *job.Problem) {
	h := c.Writer.Header()
	settle(c)
	h.Del("ETag")
	h.Set("Cache-Control", "no-store") // a 404 may be a job tomorrow
	if comesBack(p) {
		h.Set("Retry-After", strconv.Itoa(retryAfter(p)))
	}
}

// comesBack reports whether the same request may be served later.
func comesBack(p *job.Problem) bool {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return true
	}
	return false
}

// instance returns the address that a problem is of. One of a lease is cut: it has the
// token, and workers print what they are refused with.
func instance(u *url.URL) string {
	const leases = "/v1/leases"
	if strings.HasPrefix(path.Clean(u.Path), leases+"/") {
		return leases
	}
	return u.EscapedPath()
}

// retryAfter returns when to come back, in seconds: what the problem says, else a
// few, not the same for all who were refused together.
func retryAfter(p *job.Problem) int {
	after := p.RetryAfter
	if after <= 0 {
		after = between(2*time.Second, 5*time.Second)
	}
	return int((after + time.Second - 1) / time.Second)
}

// between returns a random duration, so that clients do not come in step.
func between(from, to time.Duration) time.Duration {
	return from + rand.N(to-from+1)
}

package handlers

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// passIdle is how long a reader of an upstream's answer may take nothing: as proxies have it.
// It cannot resume, as one of ours can.
const passIdle = time.Minute

// pass passes a request straight through, with these headers.
func (a *API) pass(c *gin.Context, rt *route, header http.Header) error {
	leave, ok := a.enter()
	if !ok {
		return a.busy()
	}
	defer leave()
	if r := c.Request; r.Body != nil {
		r.Body = toldBody{told{r.Body, func(err error) error { return unreadable(c, 0, err) }}, r.Body.Close}
	}
	_ = controller(c).EnableFullDuplex() // an answer may begin before the request has ended; HTTP/2 has no other way
	w := newPassing(c)
	err := rt.proxy.Pass(w, c.Request, header)
	if err == nil {
		return nil
	}
	w.giveUp()
	return a.unanswered(c, rt, err)
}

// toldBody is a request's body whose errors are told in our words.
type toldBody struct {
	told
	close func() error
}

// Close closes the body.
func (b toldBody) Close() error { return b.close() }

// unanswered is the problem of a request that the upstream did not answer. What the network
// says about it names addresses, so that goes to the log.
func (a *API) unanswered(c *gin.Context, rt *route, err error) error {
	var p *job.Problem
	if errors.As(err, &p) || c.Request.Context().Err() != nil {
		return err
	}
	a.Log.Warn("upstream failed", zap.String("route", rt.Path), zap.Error(err))
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return job.Problemf("upstream-timeout", "It could not be reached in time, or did not begin an answer within %s.", rt.Timeout)
	}
	return job.Problemf("upstream-failed", "It could not be reached, or what it answered is no HTTP.")
}

// passing writes an upstream's answer as it is: without what we say of answers of our own, but
// for whether pages of another origin may read it, which is for us to say.
type passing struct {
	*writer
	below http.ResponseWriter
	own   http.Header // of an answer of ours
}

func newPassing(c *gin.Context) *passing {
	p := &passing{writer: newWriter(c), below: below(c), own: c.Writer.Header().Clone()}
	p.patience = passIdle
	clear(p.Header())
	return p
}

// giveUp says that there will be an answer of ours after all.
func (p *passing) giveUp() {
	clear(p.Header())
	maps.Copy(p.Header(), p.own)
}

const (
	allowOrigin   = "Access-Control-Allow-Origin"
	exposeHeaders = "Access-Control-Expose-Headers"
)

// WriteHeader sends the headers, or those of an interim answer.
func (p *passing) WriteHeader(status int) {
	if status < http.StatusOK {
		p.below.WriteHeader(status) // Gin knows of no such answer
		return
	}
	h := p.Header()
	if origin := p.own.Get(allowOrigin); origin != "" {
		exposed := h.Values(exposeHeaders)
		maps.DeleteFunc(h, func(name string, _ []string) bool { return strings.HasPrefix(name, "Access-Control-") })
		h.Set(allowOrigin, origin)
		h[exposeHeaders] = append(exposed, p.own.Get(exposeHeaders))
		h.Add("Vary", "Origin")
	}
	if p.own.Get("Connection") != "" { // the server stops
		h.Set("Connection", p.own.Get("Connection"))
	}
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // net/http would guess
	}
	p.writer.WriteHeader(status)
	p.WriteHeaderNow()
}

// FlushError sends what was written.
func (p *passing) FlushError() error { return p.Flush() }

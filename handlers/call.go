package handlers

import (
	"maps"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// call makes a request of a route, with these headers, a job. Its options are headers of ours:
// the query is the upstream's.
func (a *API) call(c *gin.Context, rt *route, header http.Header) error {
	key, err := idempotencyKey(c.Request.Header)
	if err != nil {
		return err
	}
	o := new(options)
	if err := o.setHeader(c.Request.Header); err != nil {
		return err
	}
	r, err := o.request(rt.kind)
	if err != nil {
		return err
	}
	if err := a.sendable(r); err != nil {
		return err
	}
	if r.CancelOnDisconnect && preferencesOf(c.Request.Header).wait <= 0 {
		return errNoSender
	}
	r.Call = callOf(c.Request, header)
	if o.large, err = a.anyInput(c, rt.kind, r); err != nil {
		return err
	}
	j, replayed, err := a.storeOnce(c.Request.Context(), key, o, r)
	if replayed {
		c.Header("Idempotency-Replayed", "true")
	}
	if err != nil {
		return err
	}
	answer := func() error { return a.answerCall(c, j) }
	if r.CancelOnDisconnect {
		return a.untilSenderLeaves(c, j.ID, answer)
	}
	return answer()
}

// callOf returns what goes upstream: without what was said to us.
func callOf(r *http.Request, header http.Header) *job.Call {
	maps.DeleteFunc(header, func(name string, _ []string) bool { return forward.Ours(name) })
	header.Del("Prefer")
	if others := otherPreferences(r.Header); len(others) > 0 {
		header.Set("Prefer", strings.Join(others, ", "))
	}
	forward.AddForwarded(header, r)
	return &job.Call{Method: r.Method, Target: job.Octets(r.URL.RequestURI()), Header: job.Header(header)}
}

// again returns a call that was stored as the route lets it pass now: it may have been another
// route then.
func (rt *route) again(call *job.Call) (*job.Call, error) {
	path, _, _ := strings.Cut(string(call.Target), "?")
	if !rt.Takes(call.Method) || !rt.Covers(path) {
		return nil, job.Problemf("invalid-request", "The route does not take this request any more.")
	}
	header := rt.Request(http.Header(call.Header))
	for name, values := range call.Header {
		if strings.HasPrefix(name, "X-Forwarded-") { // which are ours
			header[name] = values
		}
	}
	return &job.Call{Method: call.Method, Target: call.Target, Header: job.Header(header)}, nil
}

// otherPreferences returns the preferences that are not for us: a job that asks the upstream
// to answer later would have nothing to show.
func otherPreferences(h http.Header) (others []string) {
	for _, element := range listed(h, "Prefer") {
		if name, _, _ := preference(element); name != "respond-async" && name != "wait" {
			others = append(others, strings.TrimSpace(element))
		}
	}
	return others
}

// varying are headers that are not the same each time one request is sent: they make no other
// of it. Of any other nobody knows what it means to the upstream.
var varying = []string{
	"Baggage", "Date", "Traceparent", "Tracestate", "User-Agent", "X-Correlation-Id", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id",
}

// steady returns a call without what varies.
func steady(call *job.Call) *job.Call {
	header := maps.Clone(call.Header)
	for _, name := range varying {
		delete(header, name)
	}
	return &job.Call{Method: call.Method, Target: call.Target, Header: job.Header(header)}
}

// answerCall answers the request that became a job: with what the upstream answered, if it is
// there in time.
func (a *API) answerCall(c *gin.Context, j job.Job) error {
	p := preferencesOf(c.Request.Header)
	j, ok := a.hold(c, j, p.wait, atEnd) // a HEAD too: it is the upstream's
	p.waits = p.waits && ok
	if j.Status == job.StatusSucceeded {
		return a.answerWhole(c, &j, p)
	}
	p.applied(c, j.Status.Over())
	c.Writer.Header().Add("Vary", "Prefer")
	links := linksOf(j.ID)
	c.Header("Location", links.Self)
	c.Header("Link", "<"+links.Events+`>; rel="monitor"`)
	if j.Status.Over() { // no 5xx: who gets one may send it again by itself, and it may have been done
		return withoutResult(&j)
	}
	c.Header("Retry-After", pollAfter)
	return a.sendJob(c, http.StatusAccepted, &j, a.Tokens.Mint(j.ID, j.Owner, j.ExpiresAt))
}

// answerWhole answers with the stored answer as it is: what the request said of ranges and the
// like, the upstream has heard.
func (a *API) answerWhole(c *gin.Context, j *job.Job, p preferences) error {
	bytes, err := a.Store.Result(c.Request.Context(), *j)
	if err != nil {
		return a.unlessLost(c.Request.Context(), j.ID, err)
	}
	defer bytes.Close()
	names := a.answerHeaders(c, j)
	if size := j.Result.Answer.Header["Content-Length"]; size != nil && c.Request.Method == http.MethodHead && bodyAllowed(j.Result.Answer.Status) {
		c.Writer.Header()["Content-Length"] = size // of the answer to a GET
	}
	p.applied(c, true)
	c.Writer.Header().Add("Vary", "Prefer")
	return names.unless(c, a.copyAnswer(c, j, bytes))
}

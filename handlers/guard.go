package handlers

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// admit prepares what guarded asks of each request.
func (a *API) admit() error {
	a.hosts = map[string]bool{"localhost": true, "": true} // no browser leaves it out
	for _, h := range a.Hosts {
		a.hosts[hostname(h)] = true
	}
	a.origins = map[string]bool{}
	a.cross = http.NewCrossOriginProtection()
	for _, o := range a.Origins {
		if err := a.cross.AddTrustedOrigin(o); err != nil {
			return fmt.Errorf("cors: %w", err)
		}
		a.origins[o] = true
	}
	return nil
}

// guarded lets a request pass that may come from where it does. Without it any
// web page that a user opens could run the commands of a server on her machine.
func (a *API) guarded(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // an address may hold a token
	if len(a.origins) > 0 {
		h.Add("Vary", "Origin")
	}
	if err := a.guard(c); err != nil {
		c.Abort()
		a.fail(c, err)
	}
}

// maxHeaders is the size of a request's headers that is served: several times what
// browsers send. net/http has a limit of its own above it, and its own words.
const maxHeaders = 32 << 10

func headerSize(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return n
}

func (a *API) guard(c *gin.Context) error {
	if headerSize(c.Request.Header)+len(c.Request.RequestURI) > maxHeaders {
		c.Header("Connection", "close")
		return job.Problemf("headers-too-large", "They may have %d bytes in all.", maxHeaders)
	}
	if !a.knownHost(c.Request) {
		return job.Problemf("wrong-host", "This server does not answer for %q; configure it as a host if it should.", c.Request.Host)
	}
	rt := a.routeOf(c.Request)
	if rt == nil && strings.Contains(strings.ToLower(c.Request.URL.RawPath), "%2f") {
		return noRoute(c) // Gin would take it for a slash, where a proxy that has its own rules for paths did not
	}
	if preflight, err := a.cors(c, rt); preflight || err != nil {
		return err
	}
	if err := a.cross.Check(c.Request); err != nil {
		return job.Problemf("cross-origin", "A page of another origin sent this; configure its origin if it may.")
	}
	return limitBody(c, rt != nil)
}

// knownHost refuses names that somebody else made point here (DNS rebinding).
// Nobody can do that to an address, so all of them pass, but the one that means any.
func (a *API) knownHost(r *http.Request) bool {
	host := hostname(r.Host)
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return a.hosts[host]
	}
	return !ip.Unmap().IsUnspecified()
}

// hostname returns the name or address in a Host header, without its port.
func hostname(host string) string {
	h := (&url.URL{Host: host}).Hostname()
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

// What a page of a listed origin may send and see.
const (
	corsMethods = "GET, HEAD, POST"
	corsHeaders = "Last-Event-ID, Idempotency-Key, Prefer, Authorization, Content-Type, If-Match, If-None-Match, If-Range, Range"
	corsExposed = "Location, Link, Retry-After, ETag, Content-Range, WWW-Authenticate, RateLimit, RateLimit-Policy, Preference-Applied, Millstream-Token, Millstream-Job"
	corsMaxAge  = "600" // seconds; browsers cap it near there
)

// cors tells a page of a listed origin what it may do, and answers the browser's
// question beforehand. No other origin is ever named, "null" included.
func (a *API) cors(c *gin.Context, rt *route) (preflight bool, err error) {
	origin := c.GetHeader("Origin")
	preflight = c.Request.Method == http.MethodOptions && origin != "" && c.GetHeader("Access-Control-Request-Method") != ""
	if !a.origins[origin] {
		if preflight {
			err = job.Problemf("cross-origin", "Pages of this origin may not use this server.")
		}
		return preflight, err
	}
	h := c.Writer.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExposed)
	if preflight {
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Allow-Headers", corsHeaders+corsOptions())
		if rt != nil {
			rt.cors(h, c.GetHeader("Access-Control-Request-Headers"))
		}
		h.Set("Access-Control-Max-Age", corsMaxAge)
		c.Abort()
		return true, sendNothing(c, http.StatusNoContent)
	}
	return false, nil
}

// corsOptions returns the headers of the options of a submit, each behind a comma.
func corsOptions() (list string) {
	for _, name := range known {
		list += ", " + headerOf(name)
	}
	return list
}

// limitBody gives the sender of a body a deadline, whether or not it will be
// read: net/http reads the rest of a refused one too. A body of a GET means something to some
// upstreams, and nothing to us.
func limitBody(c *gin.Context, routed bool) error {
	if c.Request.ContentLength == 0 {
		return nil
	}
	now := time.Now()
	b := &pacedBody{ReadCloser: c.Request.Body, control: controller(c), begin: now}
	b.arm(now)
	c.Request.Body = b
	if m := c.Request.Method; !routed && (m == http.MethodGet || m == http.MethodHead) {
		c.Header("Connection", "close")
		return job.Problemf("invalid-request", "A %s request has no body.", m)
	}
	return nil
}

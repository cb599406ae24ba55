package handlers

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// route is an existing API that is served under its own paths. A request passes straight
// through (pass.go), or, if its sender prefers that, becomes a job (call.go).
type route struct {
	forward.Target
	kind  *kind
	proxy *forward.Proxy
}

// connect prepares the routes: one path before all that are below it.
func (a *API) connect() {
	a.routes = nil
	for _, name := range slices.Sorted(maps.Keys(a.Proxied)) {
		rt := &route{Target: a.Proxied[name], kind: a.kinds[name]}
		rt.Timeout = rt.kind.Timeout
		rt.proxy = forward.NewProxy(&rt.Target, zap.NewStdLog(a.Log))
		rt.kind.route = rt
		a.routes = append(a.routes, rt)
	}
	slices.SortStableFunc(a.routes, func(x, y *route) int { return cmp.Compare(rank(y.Path), rank(x.Path)) })
}

// rank is the higher the fewer paths a route may have.
func rank(path string) int {
	if strings.HasSuffix(path, "*") {
		return len(path)
	}
	return 1 << 20
}

// Own reports whether the first segment of the path is one of ours, now or some day.
func Own(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return slices.Contains(own, strings.ToLower(first))
}

var own = []string{
	"", "*", "v1", "v2", "graphql", "openapi.json", "asyncapi.json", "docs", "problems", "client.js", "client.d.ts", "livez", "readyz", "metrics", "debug",
}

// routeOf returns the route that the request is of; nil: of none. The path is looked at as it
// was sent: with an escape in the route's own part it is another.
func (a *API) routeOf(r *http.Request) *route {
	if len(a.routes) == 0 {
		return nil
	}
	path := forward.EscapedPath(r.URL)
	for _, rt := range a.routes {
		if rt.Covers(path) {
			return rt
		}
	}
	return nil
}

// routePath is where the path of a request's route is kept with it.
const routePath = "route"

// routed answers the requests that are of a route. It comes before Gin looks at the path,
// which it would take apart.
func (a *API) routed(c *gin.Context) {
	if rt := a.routeOf(c.Request); rt != nil {
		c.Set(routePath, rt.Path)
		a.handle(func(c *gin.Context) error { return a.forward(c, rt) })(c)
		c.Abort()
	}
}

func (a *API) forward(c *gin.Context, rt *route) error {
	r := c.Request
	if r.URL.RawPath != "" {
		r.URL.RawPath = forward.EscapedPath(r.URL) // which net/url sends as it is
	}
	switch {
	case forward.Climbs(r.URL.Path):
		return job.Problemf("invalid-request", "A path with . or .. in it may be another one to the upstream.")
	case !rt.Takes(r.Method):
		c.Header("Allow", rt.Allow())
		return job.Problemf("method-not-allowed", "It has %s.", rt.Allow())
	}
	if err := a.mayForward(c); err != nil {
		return err
	}
	header := rt.Request(r.Header)
	a.keepOurs(header)
	if p := preferencesOf(r.Header); p.async {
		return a.call(c, rt, header)
	}
	return a.pass(c, rt, header)
}

// mayForward checks the key of a request of a route. Authorization is a key of ours or the
// upstream's business, so ours may come in a header of its own.
func (a *API) mayForward(c *gin.Context) error {
	if a.inAddress(c.Request.URL) {
		return job.Problemf("forbidden", "A key of this server in the address of a route would be shown to the upstream.")
	}
	scheme, token, _ := strings.Cut(cmp.Or(c.GetHeader(forward.KeyHeader), c.GetHeader("Authorization")), " ")
	token = strings.TrimSpace(token)
	sent := strings.EqualFold(scheme, "Bearer")
	switch {
	case sent && a.Admin != nil && a.Admin(token):
		return nil
	case sent && a.ours(token):
		return job.Problemf("forbidden", "A read token reads its job or batch and does nothing else.")
	case a.Admin == nil && c.GetHeader(forward.KeyHeader) == "":
		return nil
	}
	c.Header("WWW-Authenticate", challenge)
	return job.Problemf("unauthenticated", "This server asks for a key: Authorization: Bearer <key>, or %s if the upstream has the other.", forward.KeyHeader)
}

// inAddress reports whether an address has a key of ours, wherever in it. What cannot be parsed
// goes upstream as well.
func (a *API) inAddress(u *url.URL) bool {
	for part := range strings.FieldsFuncSeq(forward.EscapedPath(u), func(r rune) bool { return r == '/' }) {
		if a.holds(part) {
			return true
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if _, value, _ := strings.Cut(pair, "="); a.holds(pair) || a.holds(value) {
			return true
		}
	}
	return false
}

// holds reports whether a part of an address is a key of ours, or has one in it.
func (a *API) holds(part string) bool {
	text, err := url.PathUnescape(strings.ReplaceAll(part, "+", " "))
	if err != nil {
		text = part
	}
	return text != "" && a.ours(text) || slices.ContainsFunc(strings.FieldsFunc(text, separates), a.ours)
}

// separates reports whether r may stand beside a key. It does not if a random key, or a token, has
// it in it.
func separates(r rune) bool { return strings.ContainsRune(";=, ", r) }

// ours reports whether a token is a key of this server, or a read token.
func (a *API) ours(token string) bool {
	if a.Admin != nil && a.Admin(token) {
		return true
	}
	_, err := a.Tokens.Verify(token)
	return err == nil
}

// keepOurs drops an Authorization that is ours: no upstream gets to see it.
func (a *API) keepOurs(h http.Header) {
	if slices.ContainsFunc(h["Authorization"], func(v string) bool { return slices.ContainsFunc(strings.Fields(v), a.ours) }) {
		h.Del("Authorization")
	}
}

// cors says what a page of a listed origin may send to the route: what may go upstream, of
// which the page names the headers, beside what we know ourselves.
func (rt *route) cors(h http.Header, asked string) {
	h.Set("Access-Control-Allow-Methods", rt.Allow())
	for name := range strings.SplitSeq(asked, ",") {
		if name = strings.TrimSpace(name); isToken(name) && rt.Passes(name) {
			h.Set("Access-Control-Allow-Headers", h.Get("Access-Control-Allow-Headers")+", "+name)
		}
	}
}

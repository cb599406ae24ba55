package handlers

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// anonymous owns all jobs while no callers are configured.
const anonymous = "anonymous"

// bearer is where the claims of a request's token are kept with the request.
const bearer = "bearer"

// challenge is what a 401 asks for (RFC 6750 3).
const challenge = `Bearer realm="millstream"`

// authenticated checks the token of a request. The admin key may do everything, and
// so may a request without credentials where there is no such key: who reaches
// that server is trusted. A read token reads its job, or the jobs of its batch and the list
// of them, and does nothing else.
func (a *API) authenticated(c *gin.Context) error {
	token, sent, err := tokenOf(c.Request)
	if err != nil {
		return err
	}
	who, err := a.callerWith(token, sent, queryOf(c.Request).Has("access_token"))
	switch {
	case err != nil:
		challengeFor(c, sent)
		return err
	case !who.limited:
		return nil
	case !reads(c) && !listsOwn(c, &who.claims):
		return errReadsOnly
	}
	c.Set(bearer, who.claims)
	return nil
}

// errReadsOnly is the error of a read token where nothing is read.
var errReadsOnly = job.Problemf("forbidden", "A read token reads its job or batch and does nothing else.")

// caller is who sent a request.
type caller struct {
	claims  access.Claims
	limited bool // to what the claims of a read token say
}

// callerWith checks a token.
func (a *API) callerWith(token string, sent, inAddress bool) (caller, error) {
	switch {
	case !sent && a.Admin != nil:
		return caller{}, job.Problemf("unauthenticated", "This server asks for a key: Authorization: Bearer <key>.")
	case !sent, a.isAdmin(token, inAddress):
		return caller{}, nil
	}
	claims, err := a.Tokens.Verify(token)
	if err != nil {
		return caller{}, job.Problemf("unauthenticated", "The token is not valid, or no longer.")
	}
	return caller{claims, true}, nil
}

// challengeFor tells who is not let in what to send.
func challengeFor(c *gin.Context, sent bool) {
	if sent {
		c.Header("WWW-Authenticate", challenge+`, error="invalid_token"`)
		return
	}
	c.Header("WWW-Authenticate", challenge)
}

// isAdmin reports whether the token is the admin key. In an address it is not
// taken: addresses end up in logs and histories, and it lives for long.
func (a *API) isAdmin(token string, inAddress bool) bool {
	return a.Admin != nil && !inAddress && a.Admin(token)
}

// reads reports whether the request reads a job, or some, of which it is shown its own. Who is
// told of its end, and where, is between the server and who submitted it.
func reads(c *gin.Context) bool {
	m, path := c.Request.Method, c.FullPath()
	ofJob := strings.HasPrefix(path, "/v1/jobs/:id") && path != deliveriesPath
	return (m == http.MethodGet || m == http.MethodHead) && (ofJob || path == "/v1/events")
}

// listsOwn reports whether the request lists jobs of the batch that the token reads.
func listsOwn(c *gin.Context, claims *access.Claims) bool {
	m := c.Request.Method
	of := queryOf(c.Request)["batch"]
	return (m == http.MethodGet || m == http.MethodHead) && c.FullPath() == "/v1/jobs" && claims.Batch != "" && len(of) == 1 && of[0] == claims.Batch
}

// tokenOf returns the bearer token of a request: of its header, or of its query
// for EventSource, which cannot set headers (RFC 6750).
func tokenOf(r *http.Request) (token string, sent bool, err error) {
	scheme, inHeader, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	fromHeader := strings.EqualFold(scheme, "Bearer")
	inQuery, fromQuery := queryOf(r)["access_token"]
	switch {
	case fromHeader && fromQuery:
		return "", false, job.Problemf("invalid-request", "There are two tokens, in the header and in the address.")
	case fromQuery:
		return inQuery[0], true, nil
	}
	return strings.TrimSpace(inHeader), fromHeader, nil
}

// claimsOf returns what the request's token says; ok is false without one.
func claimsOf(c *gin.Context) (claims access.Claims, ok bool) {
	v, _ := c.Get(bearer)
	claims, ok = v.(access.Claims)
	return claims, ok
}

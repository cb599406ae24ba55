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

// authenticated checks the read token of a request that carries one. Such a
// request reads the token's job and does nothing else. One without credentials
// may do everything: there are no callers yet, and who reaches the server is
// trusted.
func (a *API) authenticated(c *gin.Context) error {
	token, sent, err := tokenOf(c.Request)
	if err != nil || !sent {
		return err
	}
	claims, err := a.Tokens.Verify(token)
	if err != nil {
		return job.Problemf("unauthenticated", "The token is not valid, or no longer.")
	}
	if !reads(c) {
		return job.Problemf("forbidden", "A read token reads its job and does nothing else.")
	}
	c.Set(bearer, claims)
	return nil
}

// reads reports whether the request reads a job.
func reads(c *gin.Context) bool {
	m := c.Request.Method
	return (m == http.MethodGet || m == http.MethodHead) && strings.HasPrefix(c.FullPath(), "/v1/jobs/:id")
}

// tokenOf returns the bearer token of a request: of its header, or of its query
// for EventSource, which cannot set headers (RFC 6750).
func tokenOf(r *http.Request) (token string, sent bool, err error) {
	scheme, inHeader, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	fromHeader := strings.EqualFold(scheme, "Bearer")
	inQuery, fromQuery := r.URL.Query()["access_token"]
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

package handlers

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

// routesOf returns method and path of every route.
func routesOf(a *API) (routes [][2]string) {
	r := gin.New()
	a.Routes(r)
	for _, i := range r.Routes() {
		routes = append(routes, [2]string{i.Method, i.Path})
	}
	return routes
}

// A read token reads its job and does nothing else, on every route there is: one
// that is not in the table fails the test.
func TestTokens(t *testing.T) {
	const own, foreign = "own", "foreign"
	want := map[string]map[string]int{ // by route; what own and foreign tokens get
		"GET /livez":                {own: 200, foreign: 200},
		"GET /readyz":               {own: 200, foreign: 200},
		"GET /problems/:name":       {own: 200, foreign: 200},
		"POST /v1/jobs":             {own: 403, foreign: 403},
		"GET /v1/jobs":              {own: 403, foreign: 403},
		"POST /v1/kinds/:kind/jobs": {own: 403, foreign: 403},
		"GET /v1/jobs/:id":          {own: 200, foreign: 404},
		"GET /v1/jobs/:id/events":   {own: 200, foreign: 404},
		"GET /v1/jobs/:id/result":   {own: 200, foreign: 404},
		"POST /v1/jobs/:id/cancel":  {own: 403, foreign: 403},
		"POST /v1/jobs/:id/retry":   {own: 403, foreign: 403},
		"DELETE /v1/jobs/:id":       {own: 403, foreign: 403},
		"GET /v1/events":            {own: 200, foreign: 200}, // of its own
		"POST /v1/leases":           {own: 403, foreign: 403},
		"GET /v1/kinds":             {own: 403, foreign: 403},
		"GET /v1/kinds/:kind":       {own: 403, foreign: 403},

		"GET /v1/jobs/:id/deliveries":                   {own: 403, foreign: 403},
		"POST /v1/jobs/:id/deliveries/:delivery/replay": {own: 403, foreign: 403},

		"POST /v1/leases/:lease/events": {own: 403, foreign: 403},
		"GET /v1/leases/:lease/input":   {own: 403, foreign: 403},

		"GET /graphql":  {own: 400, foreign: 400}, // there is no query; graphql_test.go has some
		"POST /graphql": {own: 415, foreign: 415},

		"GET /client.js":   {own: 200, foreign: 200},
		"GET /client.d.ts": {own: 200, foreign: 200},
	}
	serve(t, func(t *testing.T, s *service) {
		s.ordered()
		id, other := s.submit(), s.submit()
		for _, j := range []job.ID{id, other} {
			s.begin(j)
			s.succeed(j, "1")
		}
		tokens := map[string]string{own: s.signer.Mint(id, anonymous, time.Time{}), foreign: s.signer.Mint(other, anonymous, time.Time{})}
		for _, route := range routesOf(s.api) {
			path := strings.NewReplacer(":id", string(id), ":kind", "report", ":name", "internal").Replace(route[1])
			statuses, ok := want[strings.Replace(route[0], "HEAD", "GET", 1)+" "+route[1]]
			require.True(t, ok, "%s %s is not in the table", route[0], route[1])
			for whose, token := range tokens {
				a := s.do(route[0], path, "", "Authorization", "Bearer "+token)
				require.Equal(t, statuses[whose], a.StatusCode, "%s of %v by header", whose, route)
				a = s.do(route[0], path+"?access_token="+token, "")
				require.Equal(t, statuses[whose], a.StatusCode, "%s of %v by address", whose, route)
			}
			forged := s.do(route[0], path, "", "Authorization", "bearer "+tokens[own]+"x")
			if guarded(route[1]) {
				require.Equal(t, 401, forged.StatusCode, route)
				require.Equal(t, `Bearer realm="millstream", error="invalid_token"`, forged.Header.Get("WWW-Authenticate"))
			}
		}
		// A job that is not the token's looks like one that never was.
		strip := func(a answer, id job.ID) string { return strings.ReplaceAll(a.body, string(id), "") }
		never := job.NewID()
		require.Equal(t, strip(s.get(pathOf(never, "")), never), strip(s.get(pathOf(id, ""), "Authorization", "Bearer "+tokens[foreign]), id))
	})
}

// guarded reports whether a path asks for a key where there is one.
func guarded(path string) bool { return strings.HasPrefix(path, "/v1") || path == "/graphql" }

// Whatever is no valid token is refused before anything is looked up.
func TestBadTokens(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		good := s.signer.Mint(id, anonymous, time.Now().Add(time.Minute))
		other := access.NewSigner(bytes.Repeat([]byte{8}, 32)).Mint(id, anonymous, time.Time{})
		s.forget()
		for _, token := range []string{"", "x", "a.b.c", other, good + " " + good, strings.ToLower(good)} {
			s.problem(s.get(pathOf(id, ""), "Authorization", "Bearer "+token), 401, "unauthenticated")
		}
		s.problem(s.get(pathOf(id, ""), "Authorization", "Bearer"), 401, "unauthenticated")
		s.problem(s.get(pathOf(id, "/events?access_token=")), 401, "unauthenticated")
		s.problem(s.get(pathOf(id, "?access_token="+good), "Authorization", "Bearer "+good), 400, "invalid-request")
		require.Empty(t, s.called())

		require.Equal(t, 200, s.get(pathOf(id, ""), "Authorization", "Basic eDp5").StatusCode, "not a token: a proxy's, perhaps")
		require.Equal(t, 200, s.get(pathOf(id, ""), "Authorization", "BEARER  "+good).StatusCode)
		s.problem(s.get(pathOf(id, ""), "Authorization", "Bearer "+s.signer.Mint(id, "somebody else", time.Time{})), 404, "not-found")
		time.Sleep(time.Minute)
		s.problem(s.get(pathOf(id, ""), "Authorization", "Bearer "+good), 401, "unauthenticated")
	})
}

// Where there is an admin key, nothing under /v1 or by GraphQL is done without it or a read
// token; and it is not taken from an address.
func TestAdmin(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		read := s.signer.Mint(id, anonymous, time.Time{})
		s.forget()
		for _, route := range routesOf(s.api) {
			path := strings.NewReplacer(":id", string(id), ":kind", "report", ":name", "internal").Replace(route[1])
			if !guarded(path) {
				require.Equal(t, 200, s.do(route[0], path, "").StatusCode, "%v", route)
				continue
			}
			bare := s.do(route[0], path, "")
			require.Equal(t, 401, bare.StatusCode, "%v", route)
			require.Equal(t, `Bearer realm="millstream"`, bare.Header.Get("WWW-Authenticate"))
			require.Equal(t, 401, s.do(route[0], path+"?access_token=key", "").StatusCode, "%v", route)
			require.Equal(t, 401, s.do(route[0], path, "", "Authorization", "Bearer keys").StatusCode, "%v", route)
		}
		require.NotContains(t, s.called(), "Job")
		require.Equal(t, 202, s.post("/v1/jobs", `{"kind":"report","input":1}`, "Authorization", "Bearer key").StatusCode)
		require.Equal(t, 200, s.get(pathOf(id, ""), "Authorization", "Bearer key").StatusCode)
		require.Equal(t, 200, s.get(pathOf(id, ""), "Authorization", "Bearer "+read).StatusCode)
		s.problem(s.post("/v1/jobs", `{"kind":"report","input":1}`, "Authorization", "Bearer "+read), 403, "forbidden")
	}, func(a *API) { a.Admin = func(key string) bool { return key == "key" } })
}

// The log has neither tokens nor inputs, whatever becomes of a request, and is
// one JSON line a request whatever is in it.
func TestNothingSecretIsLogged(t *testing.T) {
	const secret = "canary"
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		auth := []string{"Authorization", "Bearer " + secret, "Cookie", secret, "X-Api-Key", secret, "Last-Event-ID", secret}
		s.get(pathOf(id, "?access_token="+secret))
		s.get(pathOf(id, "/events?access_token="+secret), auth...)
		s.get("/"+"nothing?access_token="+secret, auth...)
		s.get(pathOf(id, "/events?after="+secret), "Accept", jsonType)
		s.post("/v1/jobs?access_token="+secret, `{"kind":"`+secret+`","input":"`+secret+`"}`, auth...)
		s.post("/v1/jobs", `{"kind":"report","input":"`+secret+`"}`)
		s.post("/v1/jobs", `{"kind":"report\n{\"level\":\"error\"}","input":"`+secret+`"}`)
		s.api.Jobs = panicking{}
		s.get(pathOf(id, "?x="+secret), "Cookie", secret)
		require.NotZero(t, s.logs.Len())
		requests := 0
		for _, entry := range s.logs.All() {
			fields, err := json.Marshal(entry.ContextMap())
			require.NoError(t, err)
			require.NotContains(t, entry.Message+string(fields), secret)
			if entry.Message == "request" {
				requests++
			}
		}
		require.Equal(t, 8, requests)
	})
}

// The line of a request says what it was, and nobody can say that it came from
// elsewhere.
func TestAccessLog(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		a := s.get(pathOf(id, "?x=1"), "X-Forwarded-For", "203.0.113.7", "X-Real-IP", "203.0.113.7", "Forwarded", "for=203.0.113.7", "Prefer", "wait=2")
		f := s.logs.FilterMessage("request").All()[0].ContextMap()
		require.Equal(t, map[string]any{
			"method": "GET", "route": "/v1/jobs/:id", "status": int64(http.StatusOK), "duration_ms": 2000.0, "bytes": int64(len(a.body)), "remote": "",
		}, f)
		s.get("/v1/nothing/here")
		f = s.logs.FilterMessage("request").All()[1].ContextMap()
		require.Equal(t, "", f["route"])
		require.EqualValues(t, 404, f["status"])
	})
}

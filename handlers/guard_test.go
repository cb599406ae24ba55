package handlers

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Names that somebody else may make point here are refused; whoever is meant is
// served under any port.
func TestHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"localhost":                 true,
		"LocalHost:8080":            true,
		"localhost.":                true,
		"127.0.0.1":                 true,
		"127.0.0.1:1":               true,
		"127.9.9.9":                 true,
		"[::1]:8080":                true,
		"[::ffff:127.0.0.1]":        true,
		"192.0.2.7:8080":            true, // where the connection came in
		"[::ffff:192.0.2.7]":        true,
		"mill.example":              true,
		"MILL.example.:443":         true,
		"198.51.100.9":              true, // configured
		"":                          true,
		"192.0.2.8":                 true, // an address cannot be made to point elsewhere
		"evil.example":              false,
		"mill.example.evil.example": false,
		"xmill.example":             false,
		"localhost.evil.example":    false,
		"evil.example:localhost":    false,
		"localhost@evil.example":    false,
		"127.0.0.1.evil.example":    false,
		"127.1":                     false,
		"2130706433":                false,
		"0.0.0.0":                   false,
		"[fe80::1]":                 true,
		"[::]":                      false,
	} {
		t.Run(host, func(t *testing.T) {
			s := newService(t, func(a *API) { a.Hosts = []string{"Mill.Example:8080", "198.51.100.9"} })
			h := s.handler()
			r := httptest.NewRequest("GET", "/livez", nil)
			r.Host = host
			local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.7:8080"))
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if ok {
				require.Equal(t, 200, w.Code)
				return
			}
			require.Equal(t, 421, w.Code)
			require.Contains(t, w.Body.String(), "/problems/wrong-host")
		})
	}
}

// A page of another origin writes nothing here, whatever type it sends.
func TestCrossOrigin(t *testing.T) {
	for name, tc := range map[string]struct {
		header []string
		ok     bool
	}{
		"no browser":         {nil, true},
		"same origin":        {[]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://localhost"}, true},
		"typed":              {[]string{"Sec-Fetch-Site", "none"}, true},
		"same host, old":     {[]string{"Origin", "http://localhost"}, true},
		"listed":             {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"}, true},
		"listed, old":        {[]string{"Origin", "https://app.example"}, true},
		"cross-site":         {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		"other port":         {[]string{"Sec-Fetch-Site", "same-site", "Origin", "http://localhost:3000"}, false},
		"old browser":        {[]string{"Origin", "https://evil.example"}, false},
		"sandboxed":          {[]string{"Origin", "null"}, false},
		"longer name":        {[]string{"Origin", "https://app.example.evil.example"}, false},
		"listed, other port": {[]string{"Origin", "https://app.example:444"}, false},
		"listed, no TLS":     {[]string{"Origin", "http://app.example"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				s.forget()
				for path, body := range map[string]string{"/v1/jobs": `{"kind":"report","input":1}`, "/v1/kinds/report/jobs": "1", pathOf(id, "/cancel"): ""} {
					a := s.post(path, body, tc.header...)
					if tc.ok {
						require.Less(t, a.StatusCode, 300, a.body)
						continue
					}
					s.problem(a, 403, "cross-origin")
					require.Empty(t, s.called())
				}
				require.Equal(t, 200, s.get("/v1/kinds", tc.header...).StatusCode, "what is only read needs no leave: CORS hides it")
			}, func(a *API) { a.Origins = []string{"https://app.example"} })
		})
	}
}

// Only a listed origin is ever named, with all that its pages need.
func TestCORS(t *testing.T) {
	for origin, ok := range map[string]bool{
		"https://app.example":              true,
		"https://app.example:443":          false,
		"https://APP.example":              false,
		"https://app.example.evil.example": false,
		"https://evil.example":             false,
		"null":                             false,
		"*":                                false,
	} {
		t.Run(origin, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				a := s.get("/v1/kinds", "Origin", origin)
				require.Contains(t, a.Header.Values("Vary"), "Origin")
				require.Empty(t, a.Header.Get("Access-Control-Allow-Credentials"))
				pre := s.do("OPTIONS", "/v1/jobs", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "last-event-id")
				if !ok {
					require.NotContains(t, a.Header, "Access-Control-Allow-Origin")
					require.NotContains(t, a.Header, "Access-Control-Expose-Headers")
					s.problem(pre, 403, "cross-origin")
					require.NotContains(t, pre.Header, "Access-Control-Allow-Origin")
					return
				}
				require.Equal(t, origin, a.Header.Get("Access-Control-Allow-Origin"))
				for _, name := range []string{"Location", "Link", "Retry-After", "ETag", "RateLimit", "RateLimit-Policy", "Preference-Applied", "Millstream-Token"} {
					require.Contains(t, strings.Split(a.Header.Get("Access-Control-Expose-Headers"), ", "), name)
				}
				require.Equal(t, 204, pre.StatusCode)
				require.Equal(t, origin, pre.Header.Get("Access-Control-Allow-Origin"))
				for _, name := range []string{"Last-Event-ID", "Idempotency-Key", "Prefer", "Authorization", "Content-Type"} {
					require.Contains(t, strings.Split(pre.Header.Get("Access-Control-Allow-Headers"), ", "), name)
				}
				refused := s.get("/v1/jobs/x", "Origin", origin)
				require.Equal(t, origin, refused.Header.Get("Access-Control-Allow-Origin"), "a page may see what is wrong")
			}, func(a *API) { a.Origins = []string{"https://app.example"} })
		})
	}
}

func TestBadOrigins(t *testing.T) {
	for _, origin := range []string{"*", "null", "app.example", "https://app.example/", "https://*.example/x"} {
		s := newService(t, func(a *API) { a.Origins = []string{origin} })
		_, err := s.api.Handler()
		require.ErrorContains(t, err, "cors", origin)
	}
}

// The router's own refusals are problems too, and it never redirects.
func TestRouter(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		for _, path := range []string{"/", "/v1", "/v1/jobs/", "/v1/jobs//events", "/v1/kinds/", "/V1/kinds", pathOf(id, "/"), pathOf(id, "/events/"), pathOf(id, "/Events"), "/v1//jobs/" + string(id), "/../v1/kinds", "/problems/nope"} {
			a := s.problem(s.get(path), 404, "not-found")
			require.NotEmpty(t, a.Detail)
		}
		for path, allow := range map[string]string{"/v1/jobs": "GET, HEAD, POST", pathOf(id, "/events"): "GET, HEAD", pathOf(id, "/cancel"): "POST", "/livez": "GET, HEAD"} {
			for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"} {
				a := s.do(method, path, "")
				s.problem(a, 405, "method-not-allowed")
				require.Equal(t, allow, a.Header.Get("Allow"))
			}
		}
	})
}

// A panic is one problem and one line of the log; in an answer that has begun it
// cuts the connection.
func TestPanic(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.api.Jobs = panicking{}
		p := s.problem(s.get(pathOf(id, "?access_token=x")), 401, "unauthenticated")
		require.NotEmpty(t, p.Detail)
		s.problem(s.get(pathOf(id, "")), 500, "internal")
		s.problem(s.get(pathOf(id, "/events?format=ndjson")), 500, "internal")
		a := s.get(pathOf(id, "/events"), "Last-Event-ID", "1-100-1")
		require.Equal(t, 200, a.StatusCode, "an EventSource comes back")
		require.Regexp(t, `^retry: \d+\nevent: stream.end\ndata: .*"reason":"outage".*\nid: 1-100-1\n\n$`, a.body)
		require.Equal(t, 3, s.logs.FilterMessage("panic").FilterField(zap.String("job", string(id))).Len())
		require.Zero(t, s.logs.FilterMessage("request failed").Len())
		require.Equal(t, 200, s.get("/livez").StatusCode, "the server lives")

		s.api.Jobs = s.world
		s.id = goldenJob
		s.submit()
		l := s.stream(pathOf(goldenJob, "/events"))
		defer l.quit()
		l.frame()
		synctest.Wait() // until it waits for the next
		s.fail("Next", errPanic)
		s.wake()
		l.frame()
		_, err := io.ReadAll(l.in)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, 4, s.logs.FilterMessage("panic").Len())
	})
}

// A client that left before there was an answer is not an error of ours.
func TestClientGone(t *testing.T) {
	s := newService(t)
	id := s.submit()
	s.fail("Job", context.Canceled)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+pathOf(id, ""), nil).WithContext(ctx))
	require.Zero(t, s.logs.FilterMessage("request failed").Len())
	require.EqualValues(t, statusGone, s.logs.FilterMessage("request").All()[0].ContextMap()["status"])
}

// A job that cannot be shown is an error that is logged once, whatever was
// answered by then.
func TestJobThatCannotBeShown(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.edit(id, func(j *job.Job) { j.Progress = []byte("{") })
		for i, ask := range []func() answer{
			func() answer { return s.get(pathOf(id, "")) },
			func() answer { return s.get(pathOf(id, "/result")) },
			func() answer { return s.get(pathOf(id, "/events?format=json&after=x")) },
			func() answer { return s.get(pathOf(id, "/events?format=json&after=latest")) },
			func() answer { return s.get(pathOf(id, "/events?after=latest")) },
		} {
			s.problem(ask(), 500, "internal")
			require.Equal(t, i+1, s.logs.FilterMessage("request failed").FilterField(zap.String("job", string(id))).Len())
		}
		a := s.get(pathOf(id, "/events?after=x"))
		require.Equal(t, 200, a.StatusCode)
		require.NotContains(t, a.body, "internal")
		require.Equal(t, 6, s.logs.FilterMessage("request failed").Len())
	})
}

type panicking struct{ Jobs }

func (panicking) Job(context.Context, job.ID) (job.Job, error) { panic("at the disco") }

func TestLargeHeaders(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.problem(s.get("/v1/kinds", "X-Large", strings.Repeat("x", maxHeaders)), 431, "headers-too-large")
		require.Equal(t, 200, s.get("/v1/kinds", "X-Large", strings.Repeat("x", maxHeaders/2)).StatusCode)
	})
}

// A slash that is escaped is none: a proxy that passes some paths only reads it so.
func TestEscapedSlash(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.forget()
		for _, path := range []string{pathOf(id, "%2fevents"), pathOf(id, "%2Fresult"), "/v1%2Fkinds", "/problems%2finternal"} {
			s.problem(s.get(path), 404, "not-found")
		}
		s.problem(s.post(pathOf(id, "%2fcancel"), ""), 404, "not-found")
		require.Empty(t, s.called())
		require.Equal(t, 200, s.get("/v1/%6binds/%72eport").StatusCode, "other escapes say the same as what they stand for")
	})
}

package handlers

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// withRoute adds a route of /legacy/* to the API.
func withRoute(t testing.TB, upstream string, edit ...func(*forward.Target)) func(*API) {
	to, err := url.Parse(upstream)
	require.NoError(t, err)
	target := forward.Target{Path: "/legacy/*", Upstream: to}
	for _, f := range edit {
		f(&target)
	}
	return func(a *API) {
		a.Kinds = maps.Clone(a.Kinds)
		a.Kinds["legacy"] = job.Kind{Name: "legacy", Worker: "route", Description: "What was there before.", Timeout: 10 * time.Minute, MaxInput: 2 << 20}
		a.Proxied = map[string]forward.Target{"legacy": target}
	}
}

// beside runs a service with a route to h, over real sockets.
func beside(t *testing.T, h http.HandlerFunc, edit ...func(*forward.Target)) *service {
	up := httptest.NewServer(h)
	t.Cleanup(up.Close)
	return before(t, withRoute(t, up.URL, edit...))
}

// before runs a service over real sockets.
func before(t *testing.T, edit ...func(*API)) *service {
	s := newService(t, edit...)
	server := httptest.NewServer(s.handler())
	tr := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
	s.client = &http.Client{Transport: tr, CheckRedirect: s.client.CheckRedirect}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		server.Close()
		require.Zero(t, s.api.open.Load(), "places among the streams that nobody left")
	})
	return s
}

// noted answers with nothing and notes the request.
func noted(r **http.Request, body *string) http.HandlerFunc {
	return func(_ http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		*r, *body = req, string(b)
	}
}

// What is ours cannot be a route's.
func TestOwnPaths(t *testing.T) {
	for _, r := range routesOf(newService(t).api) {
		require.True(t, Own(r[1]), r[1])
	}
	for path, own := range map[string]bool{"/": true, "/*": true, "/V1/x": true, "/graphql": true, "/metrics": true, "/legacy/*": false, "/v1x": false} {
		require.Equal(t, own, Own(path), path)
	}
}

func TestRouteRequestPassesAsItIs(t *testing.T) {
	const target = "/legacy/a%2Fb/%C3%BC;p=1//x?a=%20&b=c+d;&&%zz"
	var r *http.Request
	var body string
	s := beside(t, noted(&r, &body))
	for _, method := range forward.DefaultMethods {
		req := s.request(method, "/legacy/x", "<a/>", "SOAPAction", `"a"`, "Content-Type", "text/xml", "X-Own", "1", "X-Own", "2", "Millstream-Timeout", "5s",
			"Authorization", "Bearer x", "Cookie", "a=b", "X-Forwarded-For", "1.1.1.1", "Forwarded", "for=1.1.1.1", "Connection", "X-Hop", "X-Hop", "1", "Upgrade", "websocket", "Prefer", "return=minimal")
		req.URL.Opaque = target
		a := s.send(req)
		require.Equal(t, 200, a.StatusCode, "%s: %s", method, a.body)
		require.Equal(t, target, r.RequestURI)
		require.Equal(t, method, r.Method)
		require.Equal(t, "<a/>", body)
		require.Equal(t, http.Header{
			"Soapaction": {`"a"`}, "Content-Type": {"text/xml"}, "X-Own": {"1", "2"}, "Content-Length": {"4"}, "Millstream-Timeout": {"5s"}, "User-Agent": {"Go-http-client/1.1"}, "Prefer": {"return=minimal"},
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"localhost"}, "X-Forwarded-Proto": {"http"},
		}, r.Header)
		require.True(t, strings.HasPrefix(r.Host, "127.0.0.1:"), "the upstream's name, which it may choose its site by")
	}
	require.Empty(t, s.called(), "nothing of it is stored")
}

// What comes back is what the upstream sent, and nothing of ours.
func TestRouteAnswerPassesAsItIs(t *testing.T) {
	s := beside(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.URL.Path == "/legacy/hints" {
			h.Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
		}
		h.Set("Set-Cookie", "a=b")
		h.Set("Date", "Sat, 01 Jan 2000 00:00:00 GMT")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("Trailer", "X-Sum")
		h["Content-Type"] = nil
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "<p>")
		h.Set("X-Sum", "7")
	})
	for _, path := range []string{"/legacy/", "/legacy/hints"} {
		a := s.get(path)
		require.Equal(t, http.StatusTeapot, a.StatusCode)
		require.Equal(t, "<p>", a.body)
		require.Equal(t, http.Header{"Set-Cookie": {"a=b"}, "Date": {"Sat, 01 Jan 2000 00:00:00 GMT"}}, a.Header)
		require.Equal(t, http.Header{"X-Sum": {"7"}}, a.Trailer)
	}
}

// An empty answer is not ours to fill, whatever its status.
func TestRouteEmptyAnswers(t *testing.T) {
	s := beside(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(map[string]int{"/legacy/404": 404, "/legacy/204": 204, "/legacy/304": 304}[r.URL.Path])
	})
	for path, status := range map[string]int{"/legacy/404": 404, "/legacy/204": 204, "/legacy/304": 304} {
		a := s.get(path)
		require.Equal(t, status, a.StatusCode)
		require.Empty(t, a.body)
	}
}

// A piece of an answer is with the reader before the next is made, and a piece of a request
// with the upstream.
func TestRouteStreamsBothWays(t *testing.T) {
	turn := make(chan struct{})
	s := beside(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		require.NoError(t, rc.EnableFullDuplex())
		w.Header().Set("Content-Length", "41") // also of an answer whose end is known
		in := bufio.NewReader(r.Body)
		for range 3 {
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			_, _ = io.WriteString(w, "you said "+line)
			require.NoError(t, rc.Flush())
			<-turn
		}
	})
	in, out := io.Pipe()
	r := s.chunked("POST", "/legacy/talk", "")
	r.Body = in
	go func() { _, _ = io.WriteString(out, "one\n") }()
	resp, err := s.client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two", "three"} {
		line, err := answers.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "you said "+word+"\n", line)
		turn <- struct{}{}
		if word != "three" {
			next := map[string]string{"one": "two\n", "two": "three\n"}[word]
			_, _ = io.WriteString(out, next)
		}
	}
	require.NoError(t, out.Close())
}

func TestRouteRefusals(t *testing.T) {
	asked := 0
	s := beside(t, func(http.ResponseWriter, *http.Request) { asked++ }, func(t *forward.Target) { t.Methods = []string{"GET", "POST"} })
	raw := func(target string) answer {
		r := s.request("GET", "/", "")
		r.URL.Opaque = target
		return s.send(r)
	}
	for _, target := range []string{"/legacy/../v1/jobs", "/legacy/%2e%2e/x", "/legacy/x/..%2Fy", "/legacy/..%5cx", "/legacy/..;/x", "/legacy/."} {
		s.problem(raw(target), 400, "invalid-request")
	}
	for _, target := range []string{"/legacy", "/%6Cegacy/x", "/legacy%2Fx", "/Legacy/x", "/v1%2Fjobs"} {
		s.problem(raw(target), 404, "not-found")
	}
	a := s.do("DELETE", "/legacy/x", "")
	s.problem(a, 405, "method-not-allowed")
	require.Equal(t, "GET, POST", a.Header.Get("Allow"))
	s.problem(s.get("/legacy/x", "Host", "evil.example"), 421, "wrong-host")
	s.problem(s.post("/legacy/x", "", "Sec-Fetch-Site", "cross-site"), 403, "cross-origin")
	s.problem(s.post("/legacy/x", "", "Origin", "https://evil.example"), 403, "cross-origin")
	s.problem(s.post("/legacy/x", "", "X-Large", strings.Repeat("x", maxHeaders)), 431, "headers-too-large")
	require.Zero(t, asked)
	for _, path := range []string{"/v1/jobs", "/v1/kinds/legacy/jobs"} {
		p := s.problem(s.post(path, `{"kind":"legacy","input":{}}`), 400, "invalid-request")
		require.Contains(t, p.Detail, "/legacy/*")
	}
	s.problem(s.get("/legacy/x", "Prefer", "respond-async", "Millstream-Tiemout", "5s"), 400, "invalid-request")
	s.problem(s.get("/legacy/x", "Prefer", "respond-async", "Idempotency-Key", ""), 400, "invalid-request")
	s.api.Kinds["legacy"] = job.Kind{Name: "legacy", MaxInput: 1000}
	s.handler() // again, with that
	s.problem(s.post("/legacy/x", strings.Repeat("x", 1001), "Prefer", "respond-async"), 413, "too-large")
	s.problem(s.send(s.chunked("POST", "/legacy/x", strings.Repeat("x", 1001), "Prefer", "respond-async")), 413, "too-large")
	require.NotContains(t, s.called(), "Submit")
}

// Whose key is missing or wrong gets no further; and no key of ours gets further in any case.
func TestRouteAuth(t *testing.T) {
	const key = "the-key"
	for _, open := range []bool{false, true} {
		for _, credential := range []bool{false, true} {
			var r *http.Request
			var body string
			s := beside(t, noted(&r, &body), func(t *forward.Target) { t.Credential = credential })
			if !open {
				s.api.Admin = func(k string) bool { return k == key }
			}
			read := s.signer.Mint(job.NewID(), anonymous, time.Now().Add(time.Hour))
			for _, tt := range []struct {
				name, authorization, own, query string
				open, closed                    int
				passes                          string // with credentials
			}{
				{"nothing", "", "", "", 200, 401, ""},
				{"the upstream's", "Bearer theirs", "", "", 200, 401, "Bearer theirs"},
				{"a scheme of its own", "Basic eA==", "", "", 200, 401, "Basic eA=="},
				{"our key", "Bearer " + key, "", "", 200, 200, ""},
				{"our key in another case", "bEaReR  " + key + " ", "", "", 200, 200, ""},
				{"our key as another scheme", "Token " + key, "", "", 200, 401, ""},
				{"both", "Bearer theirs", "Bearer " + key, "", 0, 200, "Bearer theirs"},
				{"ours is wrong", "Bearer theirs", "Bearer wrong", "", 401, 401, ""},
				{"ours twice", "Bearer " + key, "Bearer " + key, "", 0, 200, ""},
				{"a read token", "Bearer " + read, "", "", 403, 403, ""},
				{"a read token beside", "", "Bearer " + read, "", 403, 403, ""},
				{"a read token in the address", "", "", "?access_token=" + read, 403, 403, ""},
				{"a read token behind what nobody can parse", "", "", "?%zz;&Token=" + strings.ReplaceAll(read, ".", "%2E"), 403, 403, ""},
				{"a token of theirs in the address", "", "", "?access_token=theirs", 200, 401, ""},
				{"our key in the address", "Bearer " + key, "", "?access_token=" + key, 200, 403, ""},
			} {
				if open && (tt.open == 0 || strings.Contains(tt.name, "our key")) {
					continue // there is none
				}
				r = nil
				var headers []string
				if tt.authorization != "" {
					headers = append(headers, "Authorization", tt.authorization)
				}
				if tt.own != "" {
					headers = append(headers, forward.KeyHeader, tt.own)
				}
				want := tt.closed
				if open {
					want = tt.open
				}
				a := s.get("/legacy/x"+tt.query, headers...)
				require.Equal(t, want, a.StatusCode, "%s: %s", tt.name, a.body)
				if want != 200 {
					require.Nil(t, r, tt.name)
					continue
				}
				passes := ""
				if credential {
					passes = tt.passes
				}
				require.Equal(t, passes, r.Header.Get("Authorization"), tt.name)
				require.Empty(t, r.Header.Get(forward.KeyHeader))
			}
		}
	}
}

// Of a page of another origin, the guard decides; a listed one may send what may go upstream.
func TestRouteCORS(t *testing.T) {
	s := beside(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "X-Total")
		w.Header().Set("Vary", "Accept")
	}, func(t *forward.Target) { t.Headers = []string{"X-Tenant"} })
	s.api.Origins = []string{"https://app.example"}
	s.handler() // again, with the origin

	a := s.do("OPTIONS", "/legacy/x", "", "Origin", "https://app.example", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "x-tenant, x-other, cookie")
	require.Equal(t, 204, a.StatusCode)
	require.Equal(t, strings.Join(forward.DefaultMethods, ", "), a.Header.Get("Access-Control-Allow-Methods"))
	allowed := strings.Split(a.Header.Get("Access-Control-Allow-Headers"), ", ")
	require.Subset(t, allowed, []string{"x-tenant", "Prefer", "Idempotency-Key"})
	require.NotContains(t, allowed, "x-other")
	require.NotContains(t, allowed, "cookie")

	a = s.do("PUT", "/legacy/x", "", "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, 200, a.StatusCode)
	require.Equal(t, []string{"https://app.example"}, a.Header.Values("Access-Control-Allow-Origin"))
	require.Empty(t, a.Header.Values("Access-Control-Allow-Credentials"))
	require.Contains(t, strings.Join(a.Header.Values("Access-Control-Expose-Headers"), ", "), "X-Total, Location")
	require.ElementsMatch(t, []string{"Accept", "Origin"}, a.Header.Values("Vary"))

	a = s.get("/legacy/x", "Origin", "https://other.example")
	require.Equal(t, []string{"*"}, a.Header.Values("Access-Control-Allow-Origin"), "who may read is the upstream's business")
	s.problem(s.do("OPTIONS", "/legacy/x", "", "Origin", "https://other.example", "Access-Control-Request-Method", "PUT"), 403, "cross-origin")
}

func TestRouteWithoutItsUpstream(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	address := conn.LocalAddr().String() // nobody listens there, nor can: the connection has the port
	s := before(t, withRoute(t, "http://"+address))
	a := s.post("/legacy/x", "input")
	p := s.problem(a, 502, "upstream-failed")
	require.NotContains(t, a.body, address, "addresses are not for clients")
	require.Equal(t, "/legacy/x", p.Instance)
	require.Equal(t, "nosniff", a.Header.Get("X-Content-Type-Options"), "as on every answer of ours")
	require.Equal(t, 1, s.logs.FilterMessage("upstream failed").Len())
}

func TestRouteThatIsSilent(t *testing.T) {
	s := beside(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		<-r.Context().Done()
	})
	s.api.Kinds["legacy"] = job.Kind{Name: "legacy", Worker: "route", Timeout: 50 * time.Millisecond}
	s = before(t, func(a *API) { a.Kinds, a.Proxied = s.api.Kinds, s.api.Proxied })
	s.problem(s.get("/legacy/x"), 504, "upstream-timeout")
}

// Half an answer must not pass for the whole.
func TestRouteThatBreaksOff(t *testing.T) {
	s := beside(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := s.client.Do(s.request("GET", "/legacy/x", ""))
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A reader who leaves ends the request.
func TestRouteReaderLeaves(t *testing.T) {
	asked, gone := make(chan struct{}), make(chan struct{})
	s := beside(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(gone)
	})
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { <-asked; leave() }()
	_, err := s.client.Do(s.request("GET", "/legacy/x", "").WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
	<-gone
}

// One path is looked for before all that are below another.
func TestRouteOrder(t *testing.T) {
	named := func(name string) *url.URL {
		up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
		t.Cleanup(up.Close)
		u, _ := url.Parse(up.URL)
		return u
	}
	paths := map[string]string{"a": "/legacy/*", "b": "/legacy/deep/*", "c": "/legacy/deep/one", "d": "/legacy/deep-er/*"}
	s := before(t, func(a *API) {
		a.Kinds, a.Proxied = map[string]job.Kind{}, map[string]forward.Target{}
		for name, path := range paths {
			a.Kinds[name] = job.Kind{Name: name}
			a.Proxied[name] = forward.Target{Path: path, Upstream: named(name)}
		}
	})
	for path, name := range map[string]string{"/legacy/x": "a", "/legacy/deep": "a", "/legacy/deep/x": "b", "/legacy/deep/one": "c", "/legacy/deep/one/x": "b", "/legacy/deep-er/one": "d"} {
		require.Equal(t, name, s.get(path).body, path)
	}
	require.True(t, slices.IsSortedFunc(s.api.routes, func(x, y *route) int { return rank(y.Path) - rank(x.Path) }))
}

func TestRouteTakesAPlaceAmongTheStreams(t *testing.T) {
	asked, done := make(chan struct{}), make(chan struct{})
	s := beside(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{}; <-done })
	results := make(chan answer)
	for range s.api.Streams {
		go func() { results <- s.get("/legacy/x") }()
		<-asked
	}
	s.problem(s.get("/legacy/x"), 429, "rate-limited")
	close(done)
	for range s.api.Streams {
		require.Equal(t, 200, (<-results).StatusCode)
	}
}

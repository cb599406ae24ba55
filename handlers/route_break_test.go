package handlers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// spoken serves each connection of an upstream by hand.
func spoken(t *testing.T, serve func(n int, r *http.Request, conn net.Conn) (more bool)) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	var asked atomic.Int64
	ctx := t.Context()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				for in := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if !serve(int(asked.Add(1)), r, conn) {
						return
					}
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// An escaped slash stays one beside what no path may have as it is, and does not make a path
// one of the route's.
func TestRouteKeepsEscapes(t *testing.T) {
	var r *http.Request
	var body string
	s := beside(t, noted(&r, &body))
	for target, want := range map[string]string{"/legacy/a%2Fb|c?d|": "/legacy/a%2Fb%7Cc?d|", "/legacy/a%2fb\xc3\xbc\"": "/legacy/a%2fb%C3%BC%22", "/legacy/a|b": "/legacy/a%7Cb"} {
		req := s.request("GET", "/", "")
		req.URL.Opaque = target
		require.Equal(t, 200, s.send(req).StatusCode)
		require.Equal(t, want, r.RequestURI)
	}
	req := s.request("GET", "/", "")
	req.URL.Opaque = "/legacy%2Fx|"
	s.problem(s.send(req), 404, "not-found")
	req = s.request("GET", "/", "", "Prefer", "respond-async")
	req.URL.Opaque = "/legacy/a%2Fb|c"
	require.Equal(t, 202, s.send(req).StatusCode)
	require.Equal(t, "/legacy/a%2Fb%7Cc", string(s.last.Call.Target))
}

// A trailer that will not come is not announced.
func TestRouteDropsTrailersOfRequests(t *testing.T) {
	var r *http.Request
	var body string
	s := beside(t, noted(&r, &body))
	req := s.chunked("POST", "/legacy/x", "<a/>")
	req.Trailer = http.Header{"X-Sum": {"7"}, "Authorization": {"Bearer x"}}
	require.Equal(t, 200, s.send(req).StatusCode)
	require.Equal(t, "<a/>", body)
	require.Empty(t, r.Trailer)
}

// An answer with a status that no answer has is none.
func TestRouteOddStatuses(t *testing.T) {
	for _, status := range []string{"099", "000", "101"} {
		up := spoken(t, func(_ int, _ *http.Request, conn net.Conn) bool {
			fmt.Fprintf(conn, "HTTP/1.1 %s Odd\r\nContent-Length: 3\r\n\r\nodd", status)
			return false
		})
		s := before(t, withRoute(t, up))
		s.problem(s.get("/legacy/x"), 502, "upstream-failed")
		require.Zero(t, s.logs.FilterMessage("panic").Len())
	}
}

// To write on a connection that has just ended is to not know whether it was read. A request
// that may not come twice is not sent again then, whatever it says of a key.
func TestRouteSendsOnce(t *testing.T) {
	for _, tt := range []struct {
		method, key string
		idempotent  bool
		asked       int
	}{
		{"POST", "Idempotency-Key", false, 2}, {"POST", "X-Idempotency-Key", false, 2}, {"DELETE", "Idempotency-Key", false, 2}, {"POST", "Idempotency-Key", true, 3},
	} {
		var asked atomic.Int64
		var key atomic.Value
		up := spoken(t, func(n int, r *http.Request, conn net.Conn) bool {
			asked.Store(int64(n))
			key.Store(r.Header.Get(tt.key))
			if n == 2 {
				return false // without an answer
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return true
		})
		s := before(t, withRoute(t, up, func(t *forward.Target) { t.Idempotent = tt.idempotent }))
		require.Equal(t, 200, s.get("/legacy/first").StatusCode)
		a := s.do(tt.method, "/legacy/second", "", tt.key, "k1")
		require.EqualValues(t, tt.asked, asked.Load(), tt)
		require.Equal(t, "k1", key.Load())
		if tt.idempotent {
			require.Equal(t, 200, a.StatusCode)
			continue
		}
		s.problem(a, 502, "upstream-failed")
	}
}

// Who is a job, the server says.
func TestRouteNobodyElseNamesTheJob(t *testing.T) {
	var r *http.Request
	var body string
	s := beside(t, noted(&r, &body))
	spoof := []string{"Millstream-Job", "job_x", "Millstream_attempt", "7", "Millstream_job", "job_y", "X-Own", "1"}
	require.Equal(t, 200, s.get("/legacy/x", spoof...).StatusCode)
	for name := range r.Header {
		require.False(t, strings.HasPrefix(name, "Millstream"), name)
	}
	spoof[0], spoof[1] = "Millstream_timeout", "7"
	require.Equal(t, 202, s.get("/legacy/x", append(spoof, "Prefer", "respond-async")...).StatusCode)
	require.Equal(t, []string{"1"}, s.last.Call.Header["X-Own"])
	for name := range s.last.Call.Header {
		require.False(t, strings.HasPrefix(name, "Millstream"), name)
	}
}

// An upstream may choose its site by the name that the caller asked for: under another it is
// another request, which does not get the first one's answer.
func TestCallOnceOfTwoSites(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		ask := func(host string) answer {
			return s.post("/legacy/x", "<a/>", "Host", host, "Prefer", "respond-async", "Idempotency-Key", "k")
		}
		require.Equal(t, 202, ask("127.0.0.1").StatusCode)
		s.problem(ask("localhost"), 422, "idempotency-mismatch")
		require.Equal(t, "true", ask("127.0.0.1").Header.Get("Idempotency-Replayed"))
	}, withRoute(t, "http://upstream.invalid"))
}

// A retry is a request of now: what the route lets pass no more, it does not send again.
func TestRetryByTheRouteOfNow(t *testing.T) {
	now := func(s *service, edit func(*forward.Target)) {
		target := s.api.Proxied["legacy"]
		edit(&target)
		s.api.Proxied = map[string]forward.Target{"legacy": target}
		s.handler() // again, as after a restart
	}
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		s.do("PUT", "/legacy/x?y", "<a/>", "Prefer", "respond-async", "Authorization", "Bearer theirs", "X-Tenant", "7", "SOAPAction", `"a"`)
		first := s.last.Call.Header
		require.Equal(t, []string{"Bearer theirs"}, first["Authorization"])
		s.answerWith(goldenJob, 500, "", nil)
		const again = "/v1/jobs/" + string(goldenJob) + "/retry"
		require.Equal(t, 202, s.do("POST", again, "").StatusCode)
		require.Equal(t, first, s.last.Call.Header)

		now(s, func(t *forward.Target) { t.Credential, t.Headers = false, []string{"SOAPAction"} })
		require.Equal(t, 202, s.do("POST", again, "").StatusCode)
		require.Equal(t, job.Header{"SOAPAction": {`"a"`}, "X-Forwarded-Host": {"localhost"}, "X-Forwarded-Proto": {"http"}}, without(s.last.Call.Header, "X-Forwarded-For"))

		now(s, func(t *forward.Target) { t.Methods = []string{"POST"} })
		s.problem(s.do("POST", again, ""), 400, "invalid-request")
		now(s, func(t *forward.Target) { t.Methods, t.Path = nil, "/other/*" })
		s.problem(s.do("POST", again, ""), 400, "invalid-request")
	}, withRoute(t, "http://upstream.invalid", func(t *forward.Target) { t.Credential = true }))
}

// without returns a header without one of its names: a pipe has no address.
func without(h job.Header, name string) job.Header {
	delete(h, name)
	return h
}

// A key in an address goes no further, wherever in it.
func TestRouteKeysInAddresses(t *testing.T) {
	const key = "msk_a=b;c"
	var r *http.Request
	var body string
	s := beside(t, noted(&r, &body))
	s.api.Admin = func(k string) bool { return k == key || k == "msk_plain" }
	read := s.signer.Mint(job.NewID(), anonymous, time.Now().Add(time.Hour))
	for _, target := range []string{
		"?a=1;access_token=" + read, "?" + read, "?" + read + "=1", "?a=Bearer%20" + read, "/" + read, "/x;t=" + read + "/y", "?a=msk_plain", "?a;msk_plain", "/msk%5Fplain", "?a=msk_a%3Db%3Bc", "?msk_a=b;c",
	} {
		s.problem(s.get("/legacy/x"+target, "Authorization", "Bearer msk_plain"), 403, "forbidden")
	}
	require.Nil(t, r)
	require.Equal(t, 200, s.get("/legacy/x/msk_plainer?a=b;c=msk", "Authorization", "Bearer msk_plain").StatusCode)
}

// What is kept for a job is for who may read it, whatever caches in between obey.
func TestReplayIsKeptByNobody(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		require.Equal(t, 202, s.get("/legacy/x", "Prefer", "respond-async").StatusCode)
		s.answerWith(goldenJob, 200, "x", job.Header{
			"Cdn-Cache-Control": {"max-age=600"}, "Cloudflare-Cdn-Cache-Control": {"max-age=600"}, "Surrogate-Control": {"max-age=600"}, "X-Accel-Expires": {"600"}, "Edge-Control": {"cache-maxage=600"},
			"Cache-Control": {"public"}, "X-Own": {"1"},
		})
		a := s.get("/v1/jobs/" + string(goldenJob) + "/result")
		require.Equal(t, "private, no-cache", a.Header.Get("Cache-Control"))
		require.Equal(t, "1", a.Header.Get("X-Own"))
		for name := range a.Header {
			require.False(t, name != "Cache-Control" && strings.Contains(name, "Control") || strings.Contains(name, "Expires"), name)
		}
	}, withRoute(t, "http://upstream.invalid"))
}

// A HEAD of a route waits like any other, and says how long the answer to a GET would be.
func TestCallOfAHead(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		time.AfterFunc(2*time.Second, func() { s.answerWith(goldenJob, 200, "", job.Header{"Content-Length": {"1234"}}) })
		a := s.do("HEAD", "/legacy/file", "", "Prefer", "respond-async, wait=5")
		require.Equal(t, 200, a.StatusCode)
		require.Equal(t, "1234", a.Header.Get("Content-Length"))
		require.Equal(t, string(goldenJob), a.Header.Get("Millstream-Job"))
		require.Equal(t, "wait=5", a.Header.Get("Preference-Applied"))
		a = s.get("/v1/jobs/" + string(goldenJob) + "/result")
		require.Equal(t, "0", a.Header.Get("Content-Length"), "of the bytes that there are")
	}, withRoute(t, "http://upstream.invalid"))
}

package handlers

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/forward"
	"github.com/millstream/millstream/pkg/job"
)

// answerWith ends a job of a route with what an upstream answered.
func (w *world) answerWith(id job.ID, status int, body string, header job.Header) {
	if w.now(id).Status == job.StatusQueued {
		w.begin(id)
	}
	sum := sha256.Sum256([]byte(body))
	r := &job.Result{Type: "text/xml", Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:]), Answer: &job.Answer{Status: status, Header: header}}
	w.mu.Lock()
	w.jobs[id].result = []byte(body)
	w.mu.Unlock()
	w.add(id, job.Record{Type: job.Succeeded, Data: []byte(`{"result":` + string(r.Reference(id)) + `}`), Private: &job.Private{Result: r}})
}

// TestWireOfRoutes keeps what clients see of a request that became a job.
func TestWireOfRoutes(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		tr := &transcript{service: s}
		storyOfCalls(tr)
		golden(t, "route.http", tr.String())
	}, withRoute(t, "http://upstream.invalid"))
}

func storyOfCalls(s *transcript) {
	const soap = "POST /legacy/soap?wsdl HTTP/1.1\nContent-Type: text/xml\nSOAPAction: \"urn:report\"\nPrefer: respond-async"
	const get = "GET /v1/jobs/" + string(goldenJob) + "/result HTTP/1.1"
	header := job.Header{
		"Content-Type": {"text/xml; charset=iso-8859-1"}, "Content-Language": {"de"}, "X-Backend": {"as400"}, "Date": {"Sat, 01 Jan 2000 00:00:01 GMT"},
		"Cache-Control": {"public, max-age=86400"}, "Expires": {"0"}, "Vary": {"X-Backend"}, "Referrer-Policy": {"unsafe-url"}, "Content-Security-Policy": {"default-src 'none'"},
	}
	s.id = goldenJob
	s.ask(soap + "\n\n<a/>")
	s.begin(goldenJob)
	s.ask(get)
	s.later(2*time.Second, func() { s.answerWith(goldenJob, 500, "<Fault/>", header) })
	s.ask(get + "\nPrefer: wait=5")
	s.say("A refusal has no parts, and no other conditions than the upstream's.")
	s.ask(get + "\nRange: bytes=0-1\nIf-None-Match: *")
	s.ask("HEAD /v1/jobs/" + string(goldenJob) + "/result HTTP/1.1")
	s.say("The answer is there in time.")
	s.id = goldenJob
	s.later(2*time.Second, func() {
		s.answerWith(goldenJob, 201, "<Order/>", job.Header{"Content-Type": {"text/xml"}, "Location": {"/legacy/orders/7"}, "Etag": {`W/"7"`}})
	})
	s.ask(soap + ", wait=5\n\n<a/>")
	s.say("With a key, and its repeat.")
	s.id = goldenJob
	s.ask(soap + "\nIdempotency-Key: k1\n\n<a/>")
	s.answerWith(goldenJob, 200, "<Report/>", job.Header{"Content-Type": {"text/xml"}, "Content-Encoding": {"x-own"}})
	s.ask(soap + "\nIdempotency-Key: k1\n\n<a/>")
	s.ask(soap + "\nIdempotency-Key: k1\n\n<b/>")
	s.say("A 200 has parts.")
	s.ask(get + "\nRange: bytes=1-3")
	s.ask(get + "\nIf-None-Match: " + etagIn(s.String()[strings.LastIndex(s.String(), "206"):]))
	s.ask(get + "\nRange: bytes=99-")
	s.say("It failed, and was canceled.")
	ends := []job.Record{
		{Type: job.Failed, Data: job.MustData(map[string]any{"error": job.Problemf("outcome-unknown", "the request was sent, but the upstream did not answer to the end")})},
		{Type: job.Canceled, Data: []byte(`{"reason":"no longer wanted"}`)},
	}
	for _, end := range ends {
		s.id = goldenJob
		s.later(time.Second, func() { s.begin(goldenJob); s.add(goldenJob, end) })
		s.ask(soap + ", wait=5\n\n<a/>")
	}
	s.say("What the kind of a route is.")
	s.ask("GET /v1/kinds/legacy HTTP/1.1")
	s.ask("POST /v1/jobs HTTP/1.1\nContent-Type: application/json\n\n" + `{"kind":"legacy","input":{}}`)
}

// What is stored is what goes upstream: the request as it came, but for what was said to us.
func TestCallIsTheRequest(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		a := s.do("PUT", "/legacy/a%2Fb?x=%20&&y", "<a/>", "Content-Type", "text/xml", "Content-Encoding", "gzip", "SOAPAction", `"a"`, "X-Raw", "\xfc", "Accept", "text/event-stream",
			"Prefer", `respond-async; x="y", wait=0, return=minimal; a, foo="b, wait=5"`, "Idempotency-Key", `"k"`, "Millstream-Timeout", "5s", "Millstream-Tag", "a",
			"Authorization", "Bearer x", "Cookie", "a=b", "Expect", "100-continue", "Connection", "X-Hop", "X-Hop", "1", "X-Forwarded-For", "1.1.1.1")
		require.Equal(t, http.StatusAccepted, a.StatusCode, a.body)
		require.Equal(t, jsonType, a.Header.Get("Content-Type"), "what is accepted is what the upstream sends")
		q := s.last
		require.Equal(t, "PUT", q.Call.Method)
		require.Equal(t, job.Octets("/legacy/a%2Fb?x=%20&&y"), q.Call.Target)
		delete(q.Call.Header, "X-Forwarded-For") // a pipe has no address
		require.Equal(t, job.Header{
			"Content-Type": {"text/xml"}, "Content-Encoding": {"gzip"}, "SOAPAction": {`"a"`}, "X-Raw": {"\xfc"}, "Accept": {"text/event-stream"}, "User-Agent": {"Go-http-client/1.1"},
			"Accept-Encoding": {"gzip"}, "Prefer": {`return=minimal; a, foo="b, wait=5"`}, "Idempotency-Key": {`"k"`}, "X-Forwarded-Host": {"localhost"}, "X-Forwarded-Proto": {"http"},
		}, q.Call.Header)
		require.Equal(t, "<a/>", string(q.Input))
		require.Equal(t, 5*time.Second, q.Timeout)
		require.Equal(t, []string{"a"}, q.Tags)
		require.Equal(t, anonymous, q.Owner)
	}, withRoute(t, "http://upstream.invalid"))
}

func TestCallWithCredentials(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.get("/legacy/x", "Prefer", "respond-async", "Authorization", "Bearer theirs", "Cookie", "a=b")
		require.Equal(t, []string{"Bearer theirs"}, s.last.Call.Header["Authorization"])
		require.Equal(t, []string{"a=b"}, s.last.Call.Header["Cookie"])
		require.NotContains(t, s.last.Call.Header, "Prefer", "nothing is left of it for the upstream")
		own := s.signer.Mint(job.NewID(), anonymous, time.Now().Add(time.Hour))
		s.problem(s.get("/legacy/x", "Prefer", "respond-async", "Authorization", "Bearer "+own), 403, "forbidden")
	}, withRoute(t, "http://upstream.invalid", func(t *forward.Target) { t.Credential = true }))
}

// The same request with the same key is one job; anything that the upstream could take for
// another request is refused.
func TestCallOnce(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		ask := func(method, path, body string, more ...string) answer {
			return s.do(method, path, body, append([]string{"Prefer", "respond-async", "Idempotency-Key", "k", "X-Tenant", "1", "Traceparent", "1"}, more...)...)
		}
		first := ask("POST", "/legacy/x?a=1", "{ }")
		require.Equal(t, 202, first.StatusCode)
		again := ask("POST", "/legacy/x?a=1", "{ }", "Traceparent", "2", "User-Agent", "other", "X-Request-Id", "7")
		require.Equal(t, 202, again.StatusCode)
		require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
		for _, other := range []answer{
			ask("PUT", "/legacy/x?a=1", "{ }"), ask("POST", "/legacy/x?a=2", "{ }"), ask("POST", "/legacy/x?a=1", "{}"), ask("POST", "/legacy/x?a=1", "{ }", "X-Tenant", "2"),
		} {
			s.problem(other, 422, "idempotency-mismatch")
		}
	}, withRoute(t, "http://upstream.invalid"))
}

// A body that is too large to be held is stored while it comes.
func TestCallWithALargeBody(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		large := strings.Repeat("{", 1<<20)
		a := s.post("/legacy/x", large, "Prefer", "respond-async")
		require.Equal(t, 202, a.StatusCode, a.body)
		require.NotNil(t, s.last.Upload, "JSON too: nobody looks into it")
		require.Equal(t, len(large), len(s.uploads[s.last.Upload.SHA256]))
	}, withRoute(t, "http://upstream.invalid"))
}

// A retry asks the upstream the same once more, and a kind that is no route any more asks
// nobody.
func TestRetryOfACall(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		s.id = goldenJob
		s.post("/legacy/x?y", "<a/>", "Prefer", "respond-async")
		call := s.last.Call
		s.answerWith(goldenJob, 500, "", nil)
		a := s.do("POST", "/v1/jobs/"+string(goldenJob)+"/retry", "")
		require.Equal(t, 202, a.StatusCode, a.body)
		require.Equal(t, call, s.last.Call)
		require.Equal(t, "<a/>", string(s.last.Input))
		s.api.Proxied = nil
		s.handler() // again, as after a restart
		s.problem(s.do("POST", "/v1/jobs/"+string(goldenJob)+"/retry", ""), 400, "invalid-request")
	}, withRoute(t, "http://upstream.invalid"))
}

// An answer that cannot be read is an error of ours, without a header of the upstream's.
func TestStoredAnswerThatCannotBeRead(t *testing.T) {
	for _, status := range []int{200, 404} {
		serve(t, func(t *testing.T, s *service) {
			s.id = goldenJob
			s.get("/legacy/x", "Prefer", "respond-async")
			s.answerWith(goldenJob, status, "body", job.Header{"Content-Encoding": {"gzip"}, "Content-Disposition": {"attachment"}, "Etag": {`"a"`}})
			s.fail("Read", job.Problemf("storage-unavailable", ""))
			a := s.get("/v1/jobs/" + string(goldenJob) + "/result")
			s.problem(a, 503, "storage-unavailable")
			for _, name := range []string{"Content-Encoding", "Content-Disposition", "Etag", "Millstream-Job", "Content-Security-Policy"} {
				require.Empty(t, a.Header.Values(name), name)
			}
		}, withRoute(t, "http://upstream.invalid"))
	}
}

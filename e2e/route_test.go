package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// routed runs a server with a route to what is at url.
func routed(t *testing.T, url string, more object) *server {
	t.Helper()
	route := object{"path": "/legacy/*", "upstream": url}
	for key, v := range more {
		route[key] = v
	}
	return start(t, object{"routes": []object{route}, "max_store": "4GiB"})
}

const (
	soapRequest = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Report xmlns="urn:r"><month>11</month></Report></s:Body></s:Envelope>`
	soapFault   = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\r\n <faultcode>s:Server</faultcode>\n<faultstring>kaputt \xfc</faultstring></s:Fault></s:Body></s:Envelope>"
)

// A SOAP endpoint, which knows nothing of all this, becomes asynchronous: the envelope and its
// SOAPAction arrive as they were sent, and what comes back, a fault here, is replayed byte for
// byte, with its status.
func TestRouteSOAP(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := routed(t, up.URL, nil)
	headers := []string{"Content-Type", "text/xml; charset=iso-8859-1", "SOAPAction", `"urn:r#Report"`, "Prefer", "respond-async"}
	j := s.accepted(s.ask("POST", "/legacy/soap?wsdl=%2F&&x", strings.NewReader(soapRequest), headers...))
	require.Equal(t, "legacy", j.Kind)

	call := up.next()
	require.Equal(t, "/legacy/soap?wsdl=%2F&&x", call.RequestURI)
	require.Equal(t, soapRequest, string(call.Input))
	require.Equal(t, []string{`"urn:r#Report"`}, call.Header.Values("SOAPAction"))
	require.Equal(t, "text/xml; charset=iso-8859-1", call.Header.Get("Content-Type"))
	require.Equal(t, j.ID, call.Header.Get("Millstream-Job"))
	require.Empty(t, call.Header.Get("Prefer"))
	waiting := s.ask("GET", "/v1/jobs/"+j.ID+"/result", nil)
	require.Equal(t, http.StatusAccepted, waiting.Status)
	require.Empty(t, waiting.Header.Get("Millstream-Job"), "which only the stored answer has")
	call.w.Header().Set("Set-Cookie", "session=secret")
	call.w.Header().Set("X-Backend", "as400")
	call.answer(http.StatusInternalServerError, "text/xml; charset=iso-8859-1")
	call.say("%s", soapFault)
	call.end()

	s.until(j.ID, "succeeded")
	fault := s.ask("GET", "/v1/jobs/"+j.ID+"/result", nil)
	require.Equal(t, http.StatusInternalServerError, fault.Status)
	require.Equal(t, soapFault, string(fault.Body))
	require.Equal(t, "text/xml; charset=iso-8859-1", fault.Header.Get("Content-Type"))
	require.Equal(t, j.ID, fault.Header.Get("Millstream-Job"))
	require.Equal(t, "as400", fault.Header.Get("X-Backend"))
	require.Empty(t, fault.Header.Values("Set-Cookie"))
	require.Contains(t, string(s.job(j.ID).Result), `"status":500`, "who reads the events alone must not take it for a success")
	require.Zero(t, up.asked())
}

// Who prefers to wait a moment first gets the very answer if it is there by then.
func TestRouteAnswersInTime(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := routed(t, up.URL, nil)
	go func() {
		call := <-up.calls
		call.w.Header().Set("Location", "/legacy/orders/7")
		call.answer(http.StatusCreated, "application/json")
		call.say(`{"order": 7}`)
		call.end()
	}()
	a := s.ask("POST", "/legacy/orders", bytes.NewReader([]byte(`{"item":1}`)), "Prefer", "respond-async, wait=30", "Content-Type", "application/json")
	require.Equal(t, http.StatusCreated, a.Status)
	require.Equal(t, `{"order": 7}`, string(a.Body))
	require.Equal(t, "/legacy/orders/7", a.Header.Get("Location"), "the upstream's, as it is")
	require.Equal(t, "wait=30", a.Header.Get("Preference-Applied"))
	again := s.ask("GET", "/v1/jobs/"+a.Header.Get("Millstream-Job")+"/result", nil)
	require.Equal(t, http.StatusCreated, again.Status)
	require.Equal(t, a.Body, again.Body)
}

// A slow endpoint, asked by GET: whoever asks as ever waits as ever, whoever prefers it gets a
// place to look at later. Nothing is asked twice.
func TestRouteSlowEndpoint(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := routed(t, up.URL, nil)
	plain := make(chan answer)
	go func() { plain <- s.ask("GET", "/legacy/report?month=11", nil) }()
	first := up.next()
	a := s.ask("GET", "/legacy/report?month=12", nil, "Prefer", "respond-async, wait=1")
	require.Equal(t, "respond-async, wait=1", a.Header.Get("Preference-Applied"))
	j := s.accepted(a)
	other := up.next()
	require.Equal(t, "/legacy/report?month=12", other.RequestURI)
	for text, c := range map[string]*call{"November": first, "December": other} {
		c.answer(http.StatusOK, "text/plain")
		c.say("%s", text)
		c.end()
	}
	require.Equal(t, "November", string((<-plain).Body))
	s.until(j.ID, "succeeded")
	result := s.result(j.ID)
	require.Equal(t, "December", string(result.Body))
	require.Equal(t, `"December"`, string(s.job(j.ID).Result), "a success is in the job as well")
	require.Equal(t, http.StatusNotModified, s.ask("GET", "/v1/jobs/"+j.ID+"/result", nil, "If-None-Match", result.Header.Get("ETag")).Status)
	require.Equal(t, "Dec", string(s.ask("GET", "/v1/jobs/"+j.ID+"/result", nil, "Range", "bytes=0-2").Body))
	require.Zero(t, up.asked())
}

// The kinds of a route say so, and who cancels a job ends the request.
func TestRouteCancel(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := routed(t, up.URL, object{"name": "reports", "idempotent": true})
	require.Contains(t, string(s.ask("GET", "/v1/kinds/reports", nil).Body), `"worker":"route"`)
	j := s.accepted(s.ask("POST", "/legacy/report", nil, "Prefer", "respond-async"))
	call := up.next()
	s.cancel(j.ID)
	select {
	case <-call.Context().Done():
	case <-time.After(patience):
		t.Fatal("the upstream still works")
	}
	s.until(j.ID, "canceled")
}

// A server that dies while the upstream works does not know what became of the request: it
// says so, unless the route says that it may be sent again.
func TestRouteOutlivesTheServer(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"routes": []object{
		{"path": "/legacy/once/*", "upstream": up.URL},
		{"path": "/legacy/again/*", "upstream": up.URL, "idempotent": true},
	}})
	prefer := []string{"Prefer", "respond-async", "X-Tenant", "7", "Content-Type", "text/plain"}
	large := strings.Repeat("x", 900<<10) // not held in the log
	once := s.accepted(s.ask("POST", "/legacy/once/pay", strings.NewReader("once"), prefer...))
	up.next()
	again := s.accepted(s.ask("POST", "/legacy/again/report?x", strings.NewReader(large), prefer...))
	up.next()
	s.kill()
	s.boot()
	call := up.next()
	require.Equal(t, "/legacy/again/report?x", call.RequestURI)
	require.True(t, large == string(call.Input))
	require.Equal(t, "7", call.Header.Get("X-Tenant"))
	require.Equal(t, "2", call.Header.Get("Millstream-Attempt"))
	call.answer(http.StatusOK, "text/plain")
	call.say("done")
	call.end()
	s.until(again.ID, "succeeded")
	require.Equal(t, "done", string(s.result(again.ID).Body))
	failed := s.until(once.ID, "failed")
	require.Equal(t, "/problems/outcome-unknown", failed.Error.Type)
	require.Equal(t, http.StatusConflict, s.ask("GET", "/v1/jobs/"+once.ID+"/result", nil).Status)
	require.Zero(t, up.asked(), "a payment was made twice")
}

// A model's tokens, read by somebody whose connection is cut a hundred times, anywhere in a
// frame: every token is there, once, in order; and the stream itself is the result.
func TestRouteTokensWithAHundredCuts(t *testing.T) {
	t.Parallel()
	const cuts, each = 100, 6
	up := newUpstream(t)
	s := routed(t, up.URL, nil)
	j := s.accepted(s.ask("POST", "/legacy/v1/chat", strings.NewReader(`{"stream":true}`), "Content-Type", "application/json", "Accept", "text/event-stream", "Prefer", "respond-async"))
	call := up.next()
	require.Equal(t, "text/event-stream", call.Header.Get("Accept"), "what was asked for is the upstream's business")
	call.answer(http.StatusOK, "text/event-stream")

	r := rand.New(rand.NewPCG(*seed, 7))
	t.Logf("seed %d", *seed)
	var sent strings.Builder
	reader := &cutReader{t: t, s: s, id: j.ID}
	said := 0
	for range cuts {
		for range each {
			frame := fmt.Sprintf("event: token\ndata: {\"n\":%d,\"text\":\" wörd\"}\n\n", said)
			sent.WriteString(frame)
			call.say("%s", frame)
			said++
		}
		reader.read(1 + r.IntN(2000))
	}
	sent.WriteString("data: [DONE]\n\n")
	call.say("data: [DONE]\n\n")
	call.end()
	reader.rest()

	require.Equal(t, cuts, reader.cuts)
	n := 0
	for _, e := range reader.events {
		if e.Type == "token" {
			require.EqualValues(t, n, e.field("n"))
			n++
		}
	}
	require.Equal(t, cuts*each, n)
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: reader.events, over: true}}))
	result := s.result(j.ID)
	require.Equal(t, sent.String(), string(result.Body))
	require.Equal(t, "text/event-stream", result.Header.Get("Content-Type"))
	require.Zero(t, up.asked(), "the model was asked twice")
}

// cutReader reads the events of a job on a connection that is cut.
type cutReader struct {
	t      *testing.T
	s      *server
	id     string
	last   string
	events []event
	cuts   int
}

// read reads so many bytes, or fewer if no more come for now, and is cut.
func (r *cutReader) read(most int) {
	resp := r.s.stream("GET", "/v1/jobs/"+r.id+"/events", nil, "Accept", "text/event-stream", "Last-Event-ID", r.last)
	got := make([]byte, most)
	n, err := io.ReadAtLeast(resp.Body, got, min(most, 40)) // less than the first frame after retry:
	require.NoError(r.t, err)
	_ = resp.Body.Close()
	r.take(got[:n])
	r.cuts++
}

// take keeps the whole events of what was read, as a client does.
func (r *cutReader) take(got []byte) {
	whole := got[:bytes.LastIndex(got, []byte("\n\n"))+2]
	if !bytes.HasSuffix(whole, []byte("\n\n")) {
		return
	}
	f := newFrames(bytes.NewReader(whole))
	for {
		e, err := f.read()
		if err == io.EOF {
			return
		}
		require.NoError(r.t, err)
		r.events, r.last = append(r.events, e), e.ID
	}
}

func (r *cutReader) rest() {
	rest := r.s.events(r.id, r.last).rest()
	r.events = append(r.events, rest...)
}

// A large download goes through as it is, or becomes a result that is there in parts; a large
// upload goes the same way. None of it is held in memory.
func TestRouteLargeBodies(t *testing.T) {
	t.Parallel()
	size := int64(256 << 20)
	if *soak {
		size = 1 << 30
	}
	want := sumOf(t, noise(size))
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.WriteString(w, sumOf(t, r.Body))
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.Copy(w, noise(size))
	}))
	t.Cleanup(up.Close)
	s := routed(t, up.URL, object{"max_input": "4GiB", "timeout": "5m"})

	before := s.peak()
	require.Equal(t, want, sumOf(t, s.stream("GET", "/legacy/disk.img", nil).Body))
	passed := s.stream("PUT", "/legacy/disk.img", noise(size))
	text, err := io.ReadAll(passed.Body)
	require.NoError(t, err)
	require.Equal(t, want, string(text))
	require.Less(t, s.peak()-before, int64(growth/2), "of what passes through")

	before = s.peak()
	j := s.accepted(s.ask("GET", "/legacy/disk.img", nil, "Prefer", "respond-async"))
	s.until(j.ID, "succeeded")
	path := "/v1/jobs/" + j.ID + "/result"
	require.Equal(t, want, sumOf(t, s.stream("GET", path, nil).Body))
	require.Less(t, s.peak()-before, int64(growth), "of an answer")
	part, err := io.ReadAll(s.stream("GET", path, nil, "Range", "bytes=1000-1999").Body)
	require.NoError(t, err)
	first := make([]byte, 2000)
	_, err = io.ReadFull(noise(size), first)
	require.NoError(t, err)
	require.Equal(t, first[1000:], part)
	s.erase(j.ID)

	before = s.peak()
	sent := s.stream("PUT", "/legacy/disk.img", noise(size), "Prefer", "respond-async")
	text, err = io.ReadAll(sent.Body)
	require.NoError(t, err)
	j = s.accepted(answer{sent.StatusCode, sent.Header, text})
	s.until(j.ID, "succeeded")
	require.Equal(t, want, string(s.result(j.ID).Body))
	require.Less(t, s.peak()-before, int64(growth), "of a body")
}

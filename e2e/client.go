package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client speaks the contract to whatever stands at base: a server, or a proxy in
// front of one.
type client struct {
	t    *testing.T
	base string
}

// jobState is the part of a job's representation that the tests look at.
type jobState struct {
	ID, Kind, Status string
	Attempt          int
	Result           json.RawMessage
	Error            *problem
	Cursor           string
	Links            map[string]string
	Token            string
}

// problem is an error as every answer and every job shows it (RFC 9457).
type problem struct {
	Type, Title, Detail string
	Status, Attempt     int
	Retryable           bool
	Attempts            []problem
}

// at returns a client of the same test that goes through another address.
func (c client) at(base string) client { return client{c.t, base} }

// answer is a whole response.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// into decodes the answer's body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(a.Body, v), "%d %s", a.Status, a.Body)
}

// ask sends a request with headers given as name, value, name, value…
func (c client) ask(method, path string, body io.Reader, headers ...string) answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	resp, err := send(ctx, c.base, method, path, body, headers...)
	require.NoError(c.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	return answer{resp.StatusCode, resp.Header, b}
}

func send(ctx context.Context, base, method, path string, body io.Reader, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.Header.Get("Host") // net/http has it in a place of its own
	return http.DefaultClient.Do(req)
}

// submit asks for a job and returns it as the 202 shows it.
func (c client) submit(kind string, input any) jobState {
	c.t.Helper()
	body, err := json.Marshal(object{"kind": kind, "input": input})
	require.NoError(c.t, err)
	return c.accepted(c.ask("POST", "/v1/jobs", bytes.NewReader(body), "Content-Type", "application/json"))
}

// submitRaw asks for a job whose input is the body itself.
func (c client) submitRaw(kind, mediaType string, input []byte) jobState {
	c.t.Helper()
	return c.accepted(c.ask("POST", "/v1/kinds/"+kind+"/jobs", bytes.NewReader(input), "Content-Type", mediaType))
}

func (c client) accepted(a answer) (j jobState) {
	c.t.Helper()
	require.Equal(c.t, http.StatusAccepted, a.Status, "%s", a.Body)
	a.into(c.t, &j)
	require.Equal(c.t, "/v1/jobs/"+j.ID, a.Header.Get("Location"))
	return j
}

// job returns the job as it is now.
func (c client) job(id string) (j jobState) {
	c.t.Helper()
	a := c.ask("GET", "/v1/jobs/"+id, nil)
	require.Equal(c.t, http.StatusOK, a.Status, "%s", a.Body)
	a.into(c.t, &j)
	return j
}

// result returns the bytes of the job's result.
func (c client) result(id string) answer {
	c.t.Helper()
	a := c.ask("GET", "/v1/jobs/"+id+"/result", nil)
	require.Equal(c.t, http.StatusOK, a.Status, "%s", a.Body)
	return a
}

func (c client) cancel(id string) answer {
	c.t.Helper()
	return c.ask("POST", "/v1/jobs/"+id+"/cancel", nil)
}

// until waits for the job to reach a status.
func (c client) until(id, status string) (j jobState) {
	c.t.Helper()
	eventually(c.t, id+" is "+status, func() bool {
		j = c.job(id)
		return j.Status == status
	})
	return j
}

// events opens the job's stream behind the cursor; "" is its beginning.
func (c client) events(id, after string) *stream {
	c.t.Helper()
	headers := []string{"Accept", "text/event-stream"}
	if after != "" {
		headers = append(headers, "Last-Event-ID", after)
	}
	return c.open("/v1/jobs/"+id+"/events", headers...)
}

func (c client) open(path string, headers ...string) *stream {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(cancel)
	impatient := time.AfterFunc(patience, cancel)
	defer impatient.Stop()
	resp, err := send(ctx, c.base, "GET", path, nil, headers...)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(c.t, http.StatusOK, resp.StatusCode)
	require.True(c.t, strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"))
	return &stream{t: c.t, frames: newFrames(resp.Body), cancel: cancel}
}

// stream is an open stream that a test reads event by event.
type stream struct {
	*frames
	t      *testing.T
	cancel context.CancelFunc
}

// next returns the next event, or ends the test if none comes.
func (s *stream) next() event {
	s.t.Helper()
	impatient := time.AfterFunc(patience, s.cancel)
	defer impatient.Stop()
	e, err := s.read()
	require.NoError(s.t, err)
	return e
}

// until reads up to the first event of the type and returns it.
func (s *stream) until(kind string) event {
	s.t.Helper()
	for {
		if e := s.next(); e.Type == kind {
			return e
		}
	}
}

// rest reads to the end of the stream.
func (s *stream) rest() (events []event) {
	s.t.Helper()
	impatient := time.AfterFunc(patience, s.cancel)
	defer impatient.Stop()
	for {
		e, err := s.read()
		if err == io.EOF {
			return events
		}
		require.NoError(s.t, err)
		events = append(events, e)
		impatient.Reset(patience) // for the next one: there may be many
	}
}

// close is what a reader does that has seen enough.
func (s *stream) close() { s.cancel() }

// heartbeat waits for the sign of life of a silent stream.
func (s *stream) heartbeat() {
	s.t.Helper()
	impatient := time.AfterFunc(patience, s.cancel)
	defer impatient.Stop()
	line, err := s.line()
	require.NoError(s.t, err)
	require.Equal(s.t, ":", line)
}

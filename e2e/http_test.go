package e2e

import (
	"bufio"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An existing slow service becomes a job unchanged: it is asked once, with the
// input as it was sent, and what it answers is the result, with its media type.
func TestSlowServiceBecomesAJob(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"kinds": object{"report": object{"http": object{"url": up.URL + "/run"}}}})
	j := s.submitRaw("report", "application/xml", []byte("<month>11</month>"))
	call := up.next()
	require.Equal(t, "running", s.job(j.ID).Status)
	require.Equal(t, "/run", call.URL.Path)
	require.Equal(t, "<month>11</month>", string(call.Input))
	require.Equal(t, "application/xml", call.Header.Get("Content-Type"))
	require.Equal(t, j.ID, call.Header.Get("Millstream-Job"))
	require.Equal(t, "1", call.Header.Get("Millstream-Attempt"))
	require.NotEmpty(t, call.Header.Get("Idempotency-Key"))
	require.Equal(t, http.StatusAccepted, s.ask("GET", "/v1/jobs/"+j.ID+"/result", nil).Status, "not yet")

	call.answer(http.StatusOK, "application/pdf")
	call.say("%%PDF-1.7 of %s", "November")
	call.end()
	s.until(j.ID, "succeeded")
	result := s.result(j.ID)
	require.Equal(t, "%PDF-1.7 of November", string(result.Body))
	require.Equal(t, "application/pdf", result.Header.Get("Content-Type"))
	require.Zero(t, up.asked())
}

// Tokens of a language model are relayed one by one, under their own names; the
// reader is cut and comes back, and the model never knows.
func TestTokensAreRelayed(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"kinds": object{"chat": object{"http": object{"url": up.URL}}}})
	j := s.submit("chat", object{"prompt": "Say it."})
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	st := s.events(j.ID, "")
	for i, word := range strings.Fields("no event is ever lost") {
		call.say("event: content_block_delta\ndata: {\"text\":%q}\n\n", word)
		e := st.until("content_block_delta")
		require.Equal(t, word, e.field("text"))
		if i == 2 {
			st.close()
			st = s.events(j.ID, e.ID)
		}
	}
	call.end()
	require.Equal(t, "job.succeeded", st.next().Type)
	require.Zero(t, up.asked(), "the model was asked twice")
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: s.events(j.ID, "").rest(), over: true}}))
}

// curl with nothing but the address shows each event when it happens.
func TestCurl(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"kinds": object{"chat": object{"http": object{"url": up.URL}}}})
	j := s.submit("chat", object{})
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")

	cmd := exec.CommandContext(t.Context(), "curl", "-sN", s.base+j.Links["events"])
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	impatient := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer impatient.Stop()
	in := &frames{in: bufio.NewReader(out)}
	read := func() event {
		e, err := in.read()
		require.NoError(t, err)
		return e
	}
	require.Equal(t, "job.queued", read().Type)
	require.Equal(t, "job.running", read().Type)
	for n := range 3 {
		call.say("event: token\ndata: {\"n\":%d}\n\n", n)
		require.EqualValues(t, n, read().field("n"))
	}
	call.end()
	require.Equal(t, "job.succeeded", read().Type)
	require.NoError(t, cmd.Wait())
}

package e2e

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A stop with open streams: each reader is told to come back, the process ends
// well, and the job that was running goes on after the next start with no attempt
// used up.
func TestStopHandsBack(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{
		"drain": "2s",
		"kinds": object{"tokens": object{"http": object{"url": up.URL, "idempotent": true}, "max_attempts": 1}},
	})
	j := s.submit("tokens", object{})
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	call.say("event: token\ndata: {\"n\":1}\n\n")
	streams := []*stream{s.events(j.ID, ""), s.events(j.ID, ""), s.events(j.ID, "")}
	var last event
	for _, st := range streams {
		last = st.until("token")
	}

	require.Zero(t, s.signal(syscall.SIGTERM))
	for _, st := range streams {
		said := st.rest()
		require.NotEmpty(t, said)
		end := said[len(said)-1]
		require.Equal(t, "stream.end", end.Type)
		require.Equal(t, "drain", end.field("reason"))
		require.Positive(t, st.retry)
	}

	s.boot()
	st := s.events(j.ID, last.ID)
	again := st.until("job.queued")
	require.Equal(t, "drain", again.field("reason"))
	second := up.next()
	second.answer(http.StatusOK, "application/json")
	second.say(`{"done":true}`)
	second.end()
	require.Equal(t, "job.succeeded", st.until("job.succeeded").Type)
	require.Equal(t, 1, s.job(j.ID).Attempt)
	require.Empty(t, judge([]string{j.ID}, []record{{job: j.ID, events: s.events(j.ID, "").rest(), over: true}}))
}

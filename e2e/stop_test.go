package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	goclient "github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// A stop with open streams: each reader is told to come back, the process ends
// well, and the job that was running goes on after the next start with no attempt
// used up.
func TestStopHandsBack(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{
		"drain": "8s",
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

// A request that was sent, to an upstream that may not be asked twice, is not sent
// again after a crash: the job says that nobody knows.
func TestKillWhileUpstreamWorks(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"kinds": object{"pay": object{"http": object{"url": up.URL}}}})
	j := s.submit("pay", object{"amount": 100})
	st := s.events(j.ID, "")
	running := st.until("job.running")
	up.next()
	s.kill()
	s.boot()

	events := s.events(j.ID, running.ID).rest()
	require.Equal(t, "job.failed", events[len(events)-1].Type)
	failed := s.job(j.ID)
	require.Equal(t, "/problems/outcome-unknown", failed.Error.Type)
	require.Zero(t, up.asked(), "the upstream was asked again")
}

// Go programs have a client that does by itself what an EventSource does: it
// watches through a kill.
func TestGoClientSurvivesKill(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := start(t, object{"kinds": object{"chat": object{"http": object{"url": up.URL, "idempotent": true}}}})
	j := s.submit("chat", nil)
	watcher, err := goclient.New(s.base, nil)
	require.NoError(t, err)
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	call.say("event: token\ndata: 1\n\n")

	var seen []event
	for e, err := range watcher.Events(t.Context(), job.ID(j.ID), "") {
		require.NoError(t, err)
		seen = append(seen, event{ID: e.ID, Type: string(e.Type), Job: string(e.Job), Seq: e.Seq, raw: string(e.JSON)})
		if len(seen) == 3 {
			require.Equal(t, "token", seen[2].Type)
			s.kill()
			s.boot()
			up.next().end()
		}
	}
	require.Empty(t, judge([]string{j.ID}, []record{
		{job: j.ID, events: seen, over: true},
		{job: j.ID, events: s.events(j.ID, "").rest(), over: true},
	}))
}

// A store has one process: a second one on it would number the same records.
func TestOneProcessOnAStore(t *testing.T) {
	t.Parallel()
	s := start(t, object{})
	data := s.program[len(s.program)-1]
	out, err := exec.CommandContext(t.Context(), binary, "serve", "--listen", freeAddress(t), "--data", data).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "another process")
}

// A job is kept for its retention, and then it never was; also after a restart.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"cat": object{"exec": object{"command": []string{"cat"}}, "retention": "1s"}}})
	gone := s.submit("cat", "x")
	kept := s.accepted(s.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"cat","input":"y","retention":"1h"}`), "Content-Type", "application/json"))
	s.until(kept.ID, "succeeded")
	status := func(id string) int { return s.ask("GET", "/v1/jobs/"+id+"/events", nil).Status }
	eventually(t, "the job expires", func() bool { return status(gone.ID) == http.StatusNotFound })
	s.kill()
	s.boot()
	require.Equal(t, http.StatusNotFound, status(gone.ID))
	require.Equal(t, http.StatusOK, status(kept.ID))
}

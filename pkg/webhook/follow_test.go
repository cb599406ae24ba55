package webhook

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// add adds events to a job that is followed, and has s told.
func (w *world) add(s *Sender, j *job.Job, records ...job.Record) {
	w.mu.Lock()
	before := j.Cursor
	var events []job.Event
	for _, r := range records {
		r.Seq, r.Time, r.Attempt = j.Cursor.Seq+1, time.Now().UTC().Truncate(time.Millisecond), 1
		at := job.Place{Position: r.Seq, Epoch: 1}
		require.NoError(w.t, j.Fold(&r, at))
		events = append(events, job.Event{Job: j.ID, Place: at, Record: r})
	}
	w.events[j.ID] = append(w.events[j.ID], events...)
	w.mu.Unlock()
	s.Fold(&job.Commit{Before: before, Job: j, Events: events})
}

func (w *world) begin(s *Sender, events ...job.Type) *job.Job {
	j := &job.Job{ID: job.NewID(), Kind: "k"}
	hook := &job.Webhook{URL: "https://a/", Events: events}
	w.add(s, j, job.Record{Type: job.Queued, Private: &job.Private{Request: &job.Request{Webhook: hook}}})
	w.add(s, j, job.Record{Type: job.Running})
	return j
}

func progress(n string) job.Record {
	return job.Record{Type: job.Progress, Data: json.RawMessage(`{"progress":` + n + `}`)}
}

func text(index, chunk string) job.Record {
	return job.Record{Type: job.Output, Data: json.RawMessage(`{"index":` + index + `,"chunk":"` + chunk + `"}`)}
}

// types returns the types of what came to a host.
func (w *world) types(host string) (types []string) {
	for _, r := range w.tries(host) {
		var e struct {
			Type string
			Data json.RawMessage
		}
		require.NoError(w.t, json.Unmarshal(r.body, &e))
		types = append(types, e.Type+string(e.Data))
	}
	return types
}

// What a job says is sent as it goes on, joined, and no more than was asked for.
func TestFollow(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		s, stop := w.run()
		defer stop()
		j := w.begin(s, job.Running, job.Progress, job.Output, "my-own")
		pass(time.Second)
		require.Equal(t, []string{"job.running{}"}, w.types("a"))
		w.add(s, j, text("0", "a"))
		pass(0)
		w.add(s, j, text("1", "b"), text("2", "c"), progress("1"), job.Record{Type: job.Log}, progress("2"), job.Record{Type: "my-own"})
		pass(10 * time.Millisecond)
		w.add(s, j, progress("3"))
		pass(time.Minute)
		require.Equal(t, []string{
			"job.running{}", `job.output{"index":0,"chunk":"a"}`, `job.output{"index":1,"through":2,"chunk":"bc"}`,
			`job.progress{"progress":2}`, "my_own{}", `job.progress{"progress":3}`,
		}, w.types("a"))
		w.add(s, j, job.Record{Type: job.Succeeded})
		pass(time.Minute)
		require.Len(t, w.types("a"), 6, "the end is put down by the log")
		require.Empty(t, s.follow)
	})
}

// While a receiver is down a job's events are passed over, one after three tries; newer progress
// replaces what was not delivered. Its end is tried beside them.
func TestFollowDown(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		w.receivers(says(404))
		s, stop := w.run()
		defer stop()
		j := w.begin(s, job.Progress)
		w.add(s, j, progress("1"))
		pass(time.Second)
		w.add(s, j, progress("2"))
		pass(20 * time.Second)
		require.Equal(t, []string{`job.progress{"progress":1}`, `job.progress{"progress":2}`}, w.types("a"))
		pass(time.Hour)
		require.Len(t, w.types("a"), followTries)
		w.receivers(says(204))
		w.add(s, j, progress("3"))
		pass(time.Second)
		require.Equal(t, `job.progress{"progress":3}`, w.types("a")[followTries])
		w.receivers(says(404))
		w.add(s, j, progress("4"))
		pass(time.Second)
		w.add(s, j, job.Record{Type: job.Succeeded})
		pass(time.Hour)
		require.Len(t, w.types("a"), followTries+3, "one more try once it is over")
		require.Empty(t, s.follow)
		require.Zero(t, s.Waiting())
	})
}

// A sender that is started anew goes on where the last one was; one that is told 410 ends.
func TestFollowRestart(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		s, stop := w.run()
		j := w.begin(s, "mine")
		w.add(s, j, job.Record{Type: "mine", Data: json.RawMessage(`1`)})
		pass(time.Second)
		stop()
		s, stop = w.run()
		defer stop()
		s.Fold(&job.Commit{Job: j}) // as at a start
		w.add(s, j, job.Record{Type: "mine", Data: json.RawMessage(`2`)})
		pass(time.Second)
		require.Equal(t, []string{"mine1", "mine2"}, w.types("a"))
		w.receivers(says(http.StatusGone))
		w.add(s, j, job.Record{Type: "mine", Data: json.RawMessage(`3`)})
		pass(time.Second)
		w.add(s, j, job.Record{Type: "mine", Data: json.RawMessage(`4`)})
		pass(time.Hour)
		require.Len(t, w.types("a"), 3)
		w.add(s, j, job.Record{Type: job.Canceled})
		require.Empty(t, s.follow)
	})
}

// Of a job that wants its end only nothing is followed, and nothing of one that is erased.
func TestNotFollowed(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		s, stop := w.run()
		defer stop()
		w.begin(s, job.Failed)
		require.Empty(t, s.follow)
		j := w.begin(s, job.Log)
		w.add(s, j, job.Record{Type: job.CancelRequested, Private: &job.Private{Erase: true}}, job.Record{Type: job.Log})
		pass(time.Minute)
		require.Empty(t, w.tries("a"))
		require.Empty(t, s.follow)
	})
}

func TestJoined(t *testing.T) {
	long := `{"index":0,"chunk":"` + strings.Repeat("x", followRead/2) + `"}`
	for _, tc := range [][3]string{
		{`{"index":0,"chunk":"é"}`, `{"index":1,"chunk":"\n"}`, `{"index":0,"through":1,"chunk":"é\n"}`},
		{`{"index":0,"through":4,"chunk":"a"}`, `{"index":5,"chunk":"b"}`, `{"index":0,"through":5,"chunk":"ab"}`},
		{`{"index":0,"chunk":"YQ==","encoding":"base64"}`, `{"index":1,"chunk":"b"}`, ""},
		{`{"index":0,"chunk":"a"}`, `{"index":1,"ref":"x"}`, ""},
		{`{"index":0,"chunk":"a"}`, `7`, ""},
		{long, long, ""},
	} {
		got, ok := joined(json.RawMessage(tc[0]), json.RawMessage(tc[1]))
		require.Equal(t, tc[2] != "", ok)
		require.Equal(t, tc[2], string(got))
	}
}

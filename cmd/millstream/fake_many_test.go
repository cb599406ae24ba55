package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// fakeMany has two jobs, of which one is running and one has gone, whoever asks. Each of its
// streams is cut behind one event, and the last one ends the job that was left.
func fakeMany(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("kind") == "none" {
		refuse(w, 400, job.Problemf("invalid-request", "kind: must be the name of a kind"))
		return
	}
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1\n")
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	one, gone := fakeID("one"), fakeID("gone")
	aside := func(id job.ID, t job.Type, data string) {
		e := job.Event{Job: id, Record: job.Record{Type: t, Time: at, Data: []byte(data)}}
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", t, e.AppendAside(nil))
	}
	event := func(id job.ID, seq uint64, t job.Type, data string) {
		e := job.Event{Job: id, Place: job.Place{Position: 100 + seq, Epoch: 1}, Record: job.Record{Seq: seq, Type: t, Attempt: 1, Time: at, Data: []byte(data)}}
		fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", e.Cursor(), t, e.AppendJSON(nil))
	}
	c, _ := job.ParseCursor(after)
	switch c.Seq {
	case 0:
		aside(gone, job.StreamErased, `{"job":"`+string(gone)+`"}`)
		event(one, 1, job.StreamReset, `{"reason":"latest","first":null,"job":{"id":"`+string(one)+`","kind":"resize","status":"running","attempt":1},"truncated":true}`)
	case 1:
		event(one, 2, job.Progress, `{"progress":1,"total":4}`)
	case 2:
		event(one, 3, job.Succeeded, `{"result":null}`)
	}
	w.(http.Flusher).Flush()
	if c.Seq >= 3 {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

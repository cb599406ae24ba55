package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// fakeServer speaks the contract and is as unkind about it as a network can be:
// every stream is cut behind one event.
func fakeServer() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/kinds/{kind}/jobs", fakeSubmit)
	mux.HandleFunc("POST /v1/jobs", fakeBatch)
	mux.HandleFunc("GET /v1/events", fakeMany)
	mux.HandleFunc("GET /v1/jobs", fakeList)
	mux.HandleFunc("GET /v1/jobs/{id}", known(func(w http.ResponseWriter, _ *http.Request, j fakeJob) { writeJSON(w, http.StatusOK, j.object()) }))
	mux.HandleFunc("GET /v1/jobs/{id}/events", known(fakeEvents))
	mux.HandleFunc("GET /v1/jobs/{id}/result", known(fakeResult))
	mux.HandleFunc("POST /v1/jobs/{id}/cancel", known(fakeCancel))
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 503, job.Problemf("draining", "on its way out"))
	})
	return mux
}

// fakeJob is a job whose events are all there, but for one that never ends.
type fakeJob struct {
	name       string
	status     job.Status
	events     []job.Record
	result     string
	resultType string
	endless    bool
}

func (j fakeJob) id() job.ID { return fakeID(j.name) }

// fakeID returns an id that names the job, in the letters that ids have; their
// first is a low one.
func fakeID(name string) job.ID {
	name = strings.NewReplacer("i", "1", "l", "1", "o", "0", "u", "v").Replace(name)
	return job.ID("job_0" + name + strings.Repeat("0", 25-len(name)))
}

func (j fakeJob) object() map[string]any {
	o := map[string]any{
		"id": j.id(), "kind": j.name, "status": j.status, "attempt": 1, "max_attempts": 3, "tags": []string{"t1", "t2"},
		"created_at": "2026-11-22T10:00:00.000Z", "run_at": nil, "progress": map[string]any{"progress": 1, "total": 4, "message": "m"}, "result": nil, "error": nil,
	}
	if j.endless {
		o["queue_position"] = 2
	}
	if j.status == job.StatusFailed {
		o["error"] = job.Problemf("exit-status", "it broke")
	}
	return o
}

// did returns the events of a job that did and said this: type and data in turn.
func did(typesAndData ...string) (records []job.Record) {
	attempt := 1
	for i := 0; i < len(typesAndData); i += 2 {
		t := job.Type(typesAndData[i])
		if t == job.Queued && i > 0 && !strings.Contains(typesAndData[i+1], "drain") {
			attempt++
		}
		records = append(records, job.Record{
			Seq: uint64(i/2 + 1), Type: t, Attempt: attempt, Time: time.Date(2026, 11, 22, 10, 0, i/2, 0, time.UTC), Data: json.RawMessage(typesAndData[i+1]),
		})
	}
	return records
}

func sumOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

const fakeOutput = "héllo\nwörld\x00\xff\n"

// fakeLarge is more than stands in a job.
var fakeLarge = strings.Repeat("x", 70_000)

var fakeJobs = index(
	fakeJob{name: "output", status: job.StatusSucceeded, result: fakeOutput, resultType: "text/plain", events: did(
		"job.queued", `{"kind":"x","run_at":null,"attempt":1,"reason":"submitted"}`,
		"job.running", `{"attempt":1}`,
		"job.output", `{"index":0,"chunk":"héllo\n"}`,
		"job.log", `{"stream":"stderr","line":"a \u001b[31mred\u001b[0m line"}`,
		"job.output", `{"index":1,"chunk":"d8O2cmxkAP8K","encoding":"base64"}`,
		"job.progress", `{"progress":42,"total":100,"message":"encoding"}`,
		"tick", `{"left":3}`,
		"job.succeeded", `{"result":{"href":"x","size":15,"type":"text/plain","sha256":"`+sumOf(fakeOutput)+`"}}`,
	)},
	fakeJob{name: "result", status: job.StatusSucceeded, result: `{"n":1}` + "\n", resultType: "application/json", events: did(
		"job.queued", `{}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"thinking\n"}`, "job.succeeded", `{"result":{"n":1}}`,
	)},
	fakeJob{name: "retried", status: job.StatusSucceeded, result: "second\n", resultType: "text/plain", events: did(
		"job.queued", `{"reason":"submitted"}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"first\n"}`,
		"job.attempt_failed", `{"attempt":1,"error":{"type":"/problems/exit-status","title":"T","detail":"exit status 1"},"retry_at":"2026-11-22T10:00:10.000Z"}`,
		"job.queued", `{"attempt":2,"reason":"retry","run_at":"2026-11-22T10:00:10.000Z"}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"second\n"}`, "job.succeeded", `{"result":"second\n"}`,
	)},
	fakeJob{name: "drained", status: job.StatusSucceeded, result: "half\n", resultType: "text/plain", events: did(
		"job.queued", `{"reason":"submitted"}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"ha"}`,
		"job.queued", `{"attempt":1,"reason":"drain"}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"half\n"}`, "job.succeeded", `{"result":"half\n"}`,
	)},
	fakeJob{name: "pieces", status: job.StatusSucceeded, result: "a\nb\nc\n", resultType: "text/plain", events: did(
		"job.queued", `{}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"a\n"}`, "job.output", `{"index":1,"chunk":"b\n"}`,
		"job.output", `{"index":2,"chunk":"c\n"}`, "job.succeeded", `{"result":"a\nb\nc\n"}`,
	)},
	fakeJob{name: "silent", status: job.StatusSucceeded, result: "null", resultType: "application/json", events: did("job.queued", `{}`, "job.running", `{}`, "job.succeeded", `{"result":null}`)},
	fakeJob{name: "large", status: job.StatusSucceeded, result: fakeLarge, resultType: "text/plain", events: did(
		"job.queued", `{}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"`+fakeLarge+`"}`,
		"job.succeeded", `{"result":{"href":"x","size":70000,"type":"text/plain","sha256":"`+sumOf(fakeLarge)+`"}}`,
	)},
	fakeJob{name: "binary", status: job.StatusSucceeded, result: "\x00\xff", resultType: "text/plain", events: did("job.queued", `{}`, "job.running", `{}`, "job.output", `{"index":0,"chunk":"AP8=","encoding":"base64"}`,
		"job.succeeded", `{"result":{"href":"x","size":2,"type":"text/plain","sha256":"`+sumOf("\x00\xff")+`"}}`)},
	fakeJob{name: "late", status: job.StatusSucceeded, result: "x", resultType: "text/plain", events: did("stream.reset", `{"reason":"latest"}`, "job.succeeded", `{"result":"x"}`)},
	fakeJob{name: "bad", status: job.StatusFailed, events: did("job.queued", `{}`, "job.running", `{}`, "job.failed", `{"error":{"type":"/problems/exit-status","title":"T","detail":"it broke"}}`)},
	fakeJob{name: "gone", status: job.StatusCanceled, events: did("job.queued", `{}`, "job.canceled", `{"reason":"no need"}`)},
	fakeJob{name: "never", status: job.StatusRunning, endless: true, events: did("job.queued", `{}`, "job.running", `{}`, "job.progress", `{"progress":1}`)},
	fakeJob{name: "reset", status: job.StatusSucceeded, result: "ab", resultType: "text/plain", events: did(
		"job.queued", `{}`, "job.output", `{"index":0,"chunk":"a"}`, "stream.reset", `{"reason":"epoch"}`,
		"job.output", `{"index":0,"chunk":"a"}`, "job.output", `{"index":1,"chunk":"b"}`, "job.succeeded", `{"result":"ab"}`,
	)},
)

func index(jobs ...fakeJob) map[job.ID]fakeJob {
	m := map[job.ID]fakeJob{}
	for _, j := range jobs {
		m[j.id()] = j
	}
	return m
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, p *job.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}

func known(h func(http.ResponseWriter, *http.Request, fakeJob)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		j, ok := fakeJobs[job.ID(r.PathValue("id"))]
		if !ok {
			refuse(w, http.StatusNotFound, job.Problemf("not-found", "There is no such job."))
			return
		}
		h(w, r, j)
	}
}

// fakeSubmit accepts a job of the kind that has its name, and shows what it was
// asked for.
func fakeSubmit(w http.ResponseWriter, r *http.Request) {
	j, ok := fakeJobs[fakeID(r.PathValue("kind"))]
	if !ok {
		p := job.Problemf("invalid-input", "The input does not fit the schema.")
		p.Errors = []job.FieldError{{Pointer: "/url", Detail: "is required"}}
		refuse(w, http.StatusUnprocessableEntity, p)
		return
	}
	body, _ := io.ReadAll(r.Body)
	if r.Header.Get("Accept") == "text/event-stream" {
		fakeHeld(w, r, j)
		return
	}
	o := j.object()
	o["status"] = "queued"
	o["asked"] = fmt.Sprintf("%s %s %q", r.URL.RawQuery, r.Header.Get("Content-Type"), body)
	writeJSON(w, http.StatusAccepted, o)
}

// fakeBatch accepts the jobs whose kinds have their names, and refuses the others.
func fakeBatch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	items, stored := []any{}, 0
	for line := range strings.Lines(string(body)) {
		var item struct {
			Kind string `json:"kind"`
		}
		_ = json.Unmarshal([]byte(line), &item)
		if j, ok := fakeJobs[fakeID(item.Kind)]; ok {
			items, stored = append(items, j.object()), stored+1
			continue
		}
		p := job.Problemf("invalid-request", "kind: is required")
		p.Errors = []job.FieldError{{Pointer: fmt.Sprintf("/%d/kind", len(items)), Detail: "is required"}, {Pointer: fmt.Sprintf("/%d/tags", len(items)), Detail: "must be at most 16"}}
		items = append(items, p)
	}
	if stored == 0 {
		refuse(w, http.StatusUnprocessableEntity, job.Problemf("invalid-batch", "none can be stored"))
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]any{
		"batch": "batch_01k3z9aaaaaaaaaaaaaaaaaaaa", "token": "t", "jobs": items,
		"asked": r.Header.Get("Content-Type") + " " + r.Header.Get("Idempotency-Key"),
	})
}

// fakeList lists its jobs, two on a page whatever the limit, and each page comes behind
// an empty one.
func fakeList(w http.ResponseWriter, r *http.Request) {
	ids := slices.Sorted(maps.Keys(fakeJobs))
	at, full := strings.CutSuffix(r.URL.Query().Get("cursor"), "full")
	n, _ := strconv.Atoi(at)
	jobs, next := []any{}, fmt.Sprintf("%dfull", n)
	if full {
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		for _, id := range ids[n:min(n+2, n+limit, len(ids))] {
			o := fakeJobs[id].object()
			o["asked"] = r.URL.RawQuery
			jobs = append(jobs, o)
		}
		next = strconv.Itoa(n + len(jobs))
	}
	if n+len(jobs) < len(ids) {
		writeJSON(w, http.StatusOK, map[string]any{"jobs": jobs, "cursor": next})
	} else {
		writeJSON(w, http.StatusOK, map[string]any{"jobs": jobs, "cursor": nil})
	}
}

func fakeCancel(w http.ResponseWriter, r *http.Request, j fakeJob) {
	body, _ := io.ReadAll(r.Body)
	o := j.object()
	if !j.status.Over() {
		o["cancel_requested_at"] = "2026-11-22T10:00:09.000Z"
	}
	o["status"] = string(j.status) + string(body)
	writeJSON(w, http.StatusOK, o)
}

func fakeResult(w http.ResponseWriter, _ *http.Request, j fakeJob) {
	w.Header().Set("Content-Type", j.resultType)
	fmt.Fprint(w, j.result)
}

// fakeHeld shows a job to who submits it and stays: to who has come for the first time, by
// its key, one event, and then all there are.
func fakeHeld(w http.ResponseWriter, r *http.Request, j fakeJob) {
	key := r.Header.Get("Idempotency-Key")
	if r.URL.RawQuery != "cancel_on_disconnect=true" || key == "" {
		refuse(w, http.StatusBadRequest, job.Problemf("invalid-request", "a sender that may go"))
		return
	}
	n := len(j.events)
	if _, again := fakeHeldKeys.LoadOrStore(key, j.name); !again {
		n = 1
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1\n")
	for _, e := range j.events[:n] {
		fakeFrame(w, j, e)
	}
	w.(http.Flusher).Flush()
	if n == len(j.events) && j.endless {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

var fakeHeldKeys sync.Map

func fakeFrame(w io.Writer, j fakeJob, record job.Record) {
	e := job.Event{Job: j.id(), Record: record}
	e.Place = job.Place{Position: 100 + e.Seq, Epoch: 1}
	fmt.Fprintf(w, "id: %s\nevent: %s\ndata: %s\n\n", e.Cursor(), e.Type, e.AppendJSON(nil))
}

func fakeEvents(w http.ResponseWriter, r *http.Request, j fakeJob) {
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("after")
	}
	c, _ := job.ParseCursor(after)
	if int(c.Seq) >= len(j.events) && !j.endless {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1\n")
	if int(c.Seq) < len(j.events) {
		fakeFrame(w, j, j.events[c.Seq])
	}
	w.(http.Flusher).Flush()
	if int(c.Seq) >= len(j.events) {
		<-r.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

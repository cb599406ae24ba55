package handlers

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

const (
	goldenJob   = job.ID("job_01k3z9aaaaaaaaaaaaaaaaaaaa")
	goldenBatch = "batch_01k3z9aaaaaaaaaaaaaaaaaaaa"
)

// transcript is what went over the wire.
type transcript struct {
	*service
	strings.Builder
}

// ask sends a request, its lines and its body as they stand here, and notes all
// that comes back until the server closes the connection.
func (s *transcript) ask(request string) {
	s.t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	fmt.Fprintf(s, "> %s\n", strings.ReplaceAll(strings.TrimSpace(request), "\n", "\n> "))
	raw := strings.ReplaceAll(head, "\n", "\r\n") + "\r\nHost: localhost\r\nConnection: close\r\n"
	if body != "" {
		raw += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	conn, err := s.wire.dial(context.Background(), "", "")
	require.NoError(s.t, err)
	_, err = io.WriteString(conn, raw+"\r\n"+body)
	require.NoError(s.t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Close())
	s.WriteString(strings.ReplaceAll(string(answer), "\r\n", "\n"))
	s.WriteString("\n\n")
}

// say notes what happens between two requests.
func (s *transcript) say(what string) { fmt.Fprintf(s, "# %s\n\n", what) }

// random is what is never the same twice, and what stands for it.
var random = []struct {
	*regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?m)^retry: [2-5]\d{3}$`), "retry: NNNN"},
	{regexp.MustCompile(`(?m)^Retry-After: [2-5]$`), "Retry-After: N"},
	{regexp.MustCompile(`"retry_after":[2-5]`), `"retry_after":N`},
	{regexp.MustCompile(`boundary=[0-9a-f]{60}`), "boundary=boundary"},
	{regexp.MustCompile(`(?m)^--[0-9a-f]{60}`), "--boundary"},
}

// golden compares a transcript with the file that has the one to be.
func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, r := range random {
		got = r.ReplaceAllString(got, r.with)
	}
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test -update writes it")
	wanted := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		require.Less(t, i, len(wanted), "%s ends before %q", path, line)
		require.Equal(t, wanted[i], line, "%s:%d", path, i+1)
	}
	require.Len(t, got, len(want), path)
}

// TestWire keeps what clients see: bytes, headers and their order in time.
func TestWire(t *testing.T) {
	for name, story := range map[string]func(*transcript){
		"submit.http":  storyOfSubmits,
		"batch.http":   storyOfBatches,
		"job.http":     storyOfAJob,
		"result.http":  storyOfResults,
		"refused.http": storyOfRefusals,
		"pages.http":   storyOfPages,
		"list.http":    storyOfAList,
		"kinds.http":   func(s *transcript) { s.ask("GET /v1/kinds HTTP/1.1"); s.ask("GET /v1/kinds/resize HTTP/1.1") },
		"stream.sse":   storyOfAStream,
		"reset.sse":    storyOfResets,
		"lines.sse":    storyOfLines,
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				tr := &transcript{service: s}
				story(tr)
				golden(t, name, tr.String())
			}, func(a *API) { a.Origins, a.Streams = []string{"https://app.example"}, 1000 })
		})
	}
}

func (s *transcript) goldenJob() {
	s.id = goldenJob
	s.submit()
}

func (s *transcript) later(d time.Duration, f func()) { time.AfterFunc(d, f) }

func storyOfSubmits(s *transcript) {
	s.id = goldenJob
	s.ask("POST /v1/jobs HTTP/1.1\nContent-Type: application/json\n\n" + `{"kind":"report","input":{"month":11},"tags":["november"]}`)
	s.say("It ends within the wait.")
	s.id = goldenJob
	s.later(3*time.Second, func() { s.begin(goldenJob) })
	s.later(4*time.Second, func() { s.succeed(goldenJob, `"done"`) })
	s.ask("POST /v1/kinds/report/jobs?priority=high HTTP/1.1\nContent-Type: text/plain\nPrefer: respond-async, wait=10\n\nNovember")
	s.say("It does not.")
	s.id = goldenJob
	s.ask("POST /v1/kinds/report/jobs HTTP/1.1\nPrefer: respond-async, wait=90\n\nNovember")
	s.say("Submitted and followed in one request.")
	s.id = goldenJob
	s.later(3*time.Second, func() { s.begin(goldenJob) })
	s.later(4*time.Second, func() { s.succeed(goldenJob, `"done"`) })
	s.ask("POST /v1/kinds/report/jobs HTTP/1.1\nAccept: text/event-stream\n\nNovember")
	s.say("From a page of another site, which asks first.")
	s.ask("OPTIONS /v1/jobs HTTP/1.1\nOrigin: https://app.example\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: idempotency-key")
	s.id = goldenJob
	s.ask("POST /v1/kinds/report/jobs HTTP/1.1\nOrigin: https://app.example\nSec-Fetch-Site: cross-site\n\nNovember")
}

func storyOfBatches(s *transcript) {
	const post = "POST /v1/jobs HTTP/1.1\nContent-Type: application/"
	s.batch = goldenBatch
	s.ask(post + "json\nIdempotency-Key: \"k\"\n\n" + `[{"kind":"report","input":11},{"kind":"resize","input":{"width":0}},{"kind":"report","input":12,"tags":["last"]}]`)
	s.say("The same again, when the first one is over; it waits for nothing.")
	s.begin(job.IDIn(goldenBatch, 0))
	s.succeed(job.IDIn(goldenBatch, 0), `"done"`)
	s.ask(post + "json\nIdempotency-Key: \"k\"\nPrefer: respond-async, wait=10\n\n" + `[{"kind":"report","input":11},{"kind":"resize","input":{"width":0}},{"kind":"report","input":12,"tags":["last"]}]`)
	s.say("A job a line; the queue takes the first.")
	s.batch, s.room = goldenBatch, 1
	s.ask(post + "x-ndjson\nAccept: text/event-stream\n\n" + `{"kind":"report","input":11}` + "\n\n" + `{"kind":"report",` + "\n" + `{"kind":"report","input":12}`)
	s.say("None of them is a job.")
	s.ask(post + "json\n\n" + `[{"kind":"nope","input":1},{"kind":"report"},7]`)
	s.ask(post + "json\n\n[]")
	s.say("The queue is full.")
	s.fail("Submit", job.ErrQueueFull)
	s.ask(post + "json\n\n" + `[{"kind":"report","input":1},{"kind":"report"}]`)
}

func storyOfAJob(s *transcript) {
	s.goldenJob()
	const get = "GET /v1/jobs/" + string(goldenJob) + " HTTP/1.1"
	s.ask(get)
	s.begin(goldenJob)
	s.progress(goldenJob, 42)
	s.ask(get)
	s.ask(get + "\nIf-None-Match: \"other\", W/" + etagIn(s.String()))
	s.say("The next event comes in 7 s.")
	s.later(7*time.Second, func() { s.progress(goldenJob, 43) })
	s.ask(get + "\nPrefer: wait=20")
	s.ask("POST /v1/jobs/" + string(goldenJob) + "/cancel HTTP/1.1\nContent-Type: application/json\n\n" + `{"reason":"no longer wanted"}`)
	s.add(goldenJob, job.Record{Type: job.Canceled, Data: []byte(`{"reason":"no longer wanted"}`)})
	s.ask("POST /v1/jobs/" + string(goldenJob) + "/cancel HTTP/1.1")
	s.ask("HEAD /v1/jobs/" + string(goldenJob) + " HTTP/1.1")
	s.say("Another one fails.")
	s.goldenJob()
	s.begin(goldenJob)
	s.failJob(goldenJob)
	s.ask(get)
}

// etagIn returns the last entity tag of a transcript.
func etagIn(text string) string {
	tags := regexp.MustCompile(`(?m)^Etag: (.*)$`).FindAllStringSubmatch(text, -1)
	return tags[len(tags)-1][1]
}

func storyOfResults(s *transcript) {
	s.goldenJob()
	const get = "GET /v1/jobs/" + string(goldenJob) + "/result HTTP/1.1"
	s.ask(get)
	s.begin(goldenJob)
	s.later(2*time.Second, func() { s.succeedWith(goldenJob, "text/html; charset=utf-8", []byte("<p>0123456789")) })
	s.ask(get + "\nPrefer: wait=5")
	s.ask(get + "\nIf-None-Match: " + etagIn(s.String()))
	s.ask(get + "\nRange: bytes=3-5")
	s.ask(get + "\nRange: bytes=0-1,-2")
	s.ask(get + "\nRange: bytes=99-")
	s.ask(get + "\nIf-Match: \"another\"")
	s.ask("HEAD /v1/jobs/" + string(goldenJob) + "/result HTTP/1.1")
	s.say("The next one fails.")
	s.goldenJob()
	s.begin(goldenJob)
	s.failJob(goldenJob)
	s.ask(get)
	s.say("The next one is canceled.")
	s.goldenJob()
	s.add(goldenJob, job.Record{Type: job.Canceled, Data: []byte(`{"reason":"no longer wanted"}`)})
	s.ask(get)
}

func storyOfRefusals(s *transcript) {
	s.ask("GET /v1/jobs/" + string(goldenJob) + " HTTP/1.1")
	s.ask("GET /v1/jobs/*/events HTTP/1.1\nAccept: text/event-stream")
	s.ask("GET /nothing/here?access_token=secret HTTP/1.1")
	s.ask("DELETE /v1/jobs HTTP/1.1")
	s.ask("POST /v1/jobs/" + string(goldenJob) + " HTTP/1.1")
	s.ask("POST /v1/jobs HTTP/1.1\nContent-Type: text/plain\n\nx")
	s.ask("POST /v1/jobs HTTP/1.1\nContent-Type: application/json\n\n" + `{"kind":"resize","input":{"width":0}}`)
	s.ask("POST /v1/jobs HTTP/1.1\nOrigin: https://evil.example\nContent-Type: application/json\n\n{}")
	s.ask("GET /v1/kinds HTTP/1.1\nAuthorization: Bearer forged")
	s.fail("Submit", job.ErrQueueFull)
	s.ask("POST /v1/kinds/report/jobs HTTP/1.1\n\nx")
	s.ask("GET /problems/queue-full HTTP/1.1")
}

func storyOfPages(s *transcript) {
	s.goldenJob()
	const get = "GET /v1/jobs/" + string(goldenJob) + "/events"
	const accept = " HTTP/1.1\nAccept: application/json"
	s.ask(get + accept)
	s.later(4*time.Second, func() { s.begin(goldenJob) })
	s.later(5*time.Second, func() { s.progress(goldenJob, 1) })
	s.ask(get + "?after=1-100-1" + accept + "\nPrefer: wait=25")
	s.ask(get + "?after=2-101-1&wait=25" + accept)
	s.ask(get + "?after=3-102-1&wait=5" + accept)
	s.ask(get + "?after=1-100-7" + accept)
	s.ask(get + "?after=latest" + accept)
	s.succeed(goldenJob, `{"pages":3}`)
	s.ask(get + "?limit=1&types=job.progress" + accept)
	s.ask(get + "?after=3-102-1&types=job.progress" + accept)
	s.ask(get + "?after=4-103-1" + accept)
}

func storyOfAList(s *transcript) {
	s.ask("GET /v1/jobs HTTP/1.1")
	s.goldenJob()
	s.begin(goldenJob)
	s.succeedWith(goldenJob, "text/html", []byte("<p>"))
	s.id = "job_01k3z9bbbbbbbbbbbbbbbbbbbb"
	s.submit()
	s.ask("GET /v1/jobs?status=queued&status=succeeded&kind=report&created_after=1999-12-31T23:00:00-01:00&limit=1 HTTP/1.1")
	s.ask("GET /v1/jobs?cursor=" + job.ListCursor{Created: s.now("job_01k3z9bbbbbbbbbbbbbbbbbbbb").CreatedAt.UnixMilli(), ID: "job_01k3z9bbbbbbbbbbbbbbbbbbbb"}.String() + " HTTP/1.1")
	s.ask("HEAD /v1/jobs?tag=%e6%97%a5 HTTP/1.1")
	s.ask("GET /v1/jobs?state=queued HTTP/1.1")
	s.ask("GET /v1/jobs?created_before=2026-11-22T10:00:00+01:00 HTTP/1.1")
	s.ask("GET /v1/jobs?cursor=7-18423-1 HTTP/1.1")
	s.ask("GET /v1/jobs HTTP/1.1\nAuthorization: Bearer " + s.signer.Mint(goldenJob, anonymous, time.Time{}))
	s.ask("PUT /v1/jobs HTTP/1.1")
}

func storyOfAStream(s *transcript) {
	s.goldenJob()
	s.later(1*time.Second, func() { s.begin(goldenJob) })
	s.later(2*time.Second, func() { s.progress(goldenJob, 1) })
	s.later(40*time.Second, func() {
		s.add(goldenJob,
			job.Record{Type: job.Output, Data: []byte(`{"index":0,"chunk":"<é>\r\n\u2028"}`)},
			job.Record{Type: "token", Data: []byte(`["a"]`)})
	})
	s.later(41*time.Second, func() { s.succeed(goldenJob, `{"pages":3}`) })
	const get = "GET /v1/jobs/" + string(goldenJob) + "/events"
	s.ask(get + " HTTP/1.1")
	s.say("Cut behind the third event, an EventSource comes back.")
	s.ask(get + " HTTP/1.1\nAccept: text/event-stream\nLast-Event-ID: 3-102-1")
	s.say("It has seen the last one.")
	s.ask(get + " HTTP/1.1\nAccept: text/event-stream\nLast-Event-ID: 6-105-1")
	s.ask("HEAD /v1/jobs/" + string(goldenJob) + "/events HTTP/1.1")
	s.say("Over HTTP/1.0, and only some types.")
	s.ask(get + "?types=token HTTP/1.0")
}

func storyOfResets(s *transcript) {
	s.goldenJob()
	s.begin(goldenJob)
	const get = "GET /v1/jobs/" + string(goldenJob) + "/events"
	s.later(time.Second, func() { s.succeed(goldenJob, `1`) })
	s.ask(get + "?after=latest HTTP/1.0")
	s.say("A cursor of another life of the store.")
	s.ask(get + "?after=latest HTTP/1.0\nLast-Event-ID: 2-101-7")
	s.say("No cursor at all; in lines.")
	s.ask(get + "?after=..%2F..%0Aid:%200&format=ndjson HTTP/1.0")
	s.say("The server stops.")
	s.goldenJob()
	s.later(time.Second, func() { close(s.quit) })
	s.ask(get + " HTTP/1.0")
	s.fail("Open", job.Problemf("storage-unavailable", ""))
	s.ask(get + " HTTP/1.0\nLast-Event-ID: 1-100-1")
	s.ask(get + "?format=ndjson HTTP/1.0")
}

func storyOfLines(s *transcript) {
	s.goldenJob()
	s.later(20*time.Second, func() { s.begin(goldenJob) })
	s.later(51*time.Second, func() { s.succeed(goldenJob, `{"pages":3}`) }) // at 50 there is a heartbeat
	s.ask("GET /v1/jobs/" + string(goldenJob) + "/events HTTP/1.1\nAccept: application/x-ndjson")
	s.ask("GET /v1/jobs/" + string(goldenJob) + "/events?after=3-102-1 HTTP/1.1\nAccept: application/x-ndjson")
}

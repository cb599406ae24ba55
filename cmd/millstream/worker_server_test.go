package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/millstream"
	"github.com/millstream/millstream/pkg/worker"
)

// working is a server, with a worker of its pull kind.
type working struct {
	*client.Client
	t *testing.T
}

// works starts a server with two kinds: "own" runs the command itself, and for "pulled" the
// worker does, as 'millstream worker' would.
func works(t *testing.T, e worker.Exec, limits millstream.Limits) *working {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 2)
	config := millstream.Config{Listen: "127.0.0.1:0", Data: millstream.Memory, Limits: limits, Ready: func(url string) { ready <- url }}
	go func() {
		ended <- millstream.New(config, millstream.Exec("own", e), millstream.Pull("pulled", time.Minute)).Run(ctx)
	}()
	url := <-ready
	transport := new(http.Transport)
	c, err := client.New(url, &client.Options{HTTP: &http.Client{Transport: transport}})
	require.NoError(t, err)
	p := &puller{server: &remote{Client: c, address: url}, kinds: []string{"pulled"}, name: "w", many: 1, exec: e, say: t.Logf}
	pulling, enough := context.WithCancel(ctx)
	go func() { ended <- p.run(pulling) }()
	t.Cleanup(func() {
		enough()
		require.NoError(t, <-ended)
		stop()
		require.NoError(t, <-ended)
		transport.CloseIdleConnections()
	})
	return &working{c, t}
}

// done is a job that is over, as everybody sees it.
type done struct {
	status  job.Status
	attempt int
	problem string
	shown   string // result in the job
	body    string // the result itself
	typ     string
	output  string
	events  []string // what else the command said
}

// do does a job, with that input, as one of the kind.
func (w *working) do(kind, inputType, input string) (d done) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	j, err := w.Submit(ctx, kind, strings.NewReader(input), &client.SubmitOptions{ContentType: inputType})
	require.NoError(w.t, err)
	for e, err := range w.Events(ctx, j.ID, "") {
		require.NoError(w.t, err)
		switch {
		case e.Type == job.Output:
			_, b := parsePlaced(e.Data)
			d.output += string(b)
		case e.Type == job.Log || !e.Type.Reserved():
			d.events = append(d.events, string(e.Type)+" "+string(e.Data))
		}
	}
	j, err = w.Job(ctx, j.ID)
	require.NoError(w.t, err)
	d.status, d.attempt = j.Status, j.Attempt
	d.shown = strings.ReplaceAll(string(j.Result), string(j.ID), "ID")
	if j.Error != nil {
		d.problem = j.Error.Name() + ": " + j.Error.Detail
		return d
	}
	r, err := w.Result(ctx, j.ID)
	require.NoError(w.t, err)
	b, err := io.ReadAll(r.Body)
	require.NoError(w.t, err)
	require.NoError(w.t, r.Body.Close())
	d.typ, d.body = r.Type, string(b)
	return d
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// A job that a worker does is the one that it would be if the server ran the command: the
// same bytes come in, and the same come out.
func TestWorkerDoesWhatTheServerWould(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	cat := []string{"cat"}
	for name, c := range map[string]struct {
		exec             worker.Exec
		inputType, input string
		want             done
	}{
		"JSON with a member twice": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: jsonType}, "", `{"a":1,"a":2}`,
			done{shown: `{"a":1,"a":2}`, body: `{"a":1,"a":2}`, typ: jsonType},
		},
		"JSON that is deep": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: jsonType}, "", nested(64),
			done{shown: nested(64), body: nested(64), typ: jsonType},
		},
		"JSON that is too deep to be shown": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: jsonType}, "", nested(65),
			done{body: nested(65), typ: jsonType},
		},
		"JSON that is not UTF-8": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: jsonType}, "", "{\"a\":\"\xff\"}",
			done{body: "{\"a\":\"\xff\"}", typ: jsonType},
		},
		"JSON that is none": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: jsonType}, "", "{",
			done{body: "{", typ: jsonType},
		},
		"JSON as somebody wrote it": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: "application/geo+json"}, "", "{ \"html\" : \"<b>\" }\n",
			done{shown: `{"html":"<b>"}`, body: "{ \"html\" : \"<b>\" }\n", typ: "application/geo+json"},
		},
		"text": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: "text/html"}, "", "<ü>\n",
			done{shown: `"<ü>\n"`, body: "<ü>\n", typ: "text/html"},
		},
		"nothing": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult}, "", "",
			done{typ: "application/octet-stream"},
		},
		"the largest": {
			worker.Exec{Command: sh("head -c 524288 /dev/zero"), Stdout: worker.StdoutResult, ResultType: jsonType}, "", "",
			done{body: strings.Repeat("\x00", worker.MaxPiece), typ: jsonType},
		},
		"a JSON input": {
			worker.Exec{Command: cat, Stdout: worker.StdoutResult, ResultType: "text/plain"}, jsonType, "{ \"html\" : \"<\\u0062>\",\n\"n\" : 1.0 }\n",
			done{shown: `"{ \"html\" : \"<\\u0062>\",\n\"n\" : 1.0 }\n"`, body: "{ \"html\" : \"<\\u0062>\",\n\"n\" : 1.0 }\n", typ: "text/plain"},
		},
		"a result among events": {
			worker.Exec{Command: cat, Stdout: worker.StdoutEvents}, "", `{"type":"own","data":{"html":"<b>"}}` + "\n" + `{"type":"result","data":{"a":"<", "a":"&"}}`,
			done{shown: `{"a":"<","a":"&"}`, body: `{"a":"<","a":"&"}`, typ: jsonType, events: []string{`own {"html":"<b>"}`}},
		},
		"no result among events": {
			worker.Exec{Command: cat, Stdout: worker.StdoutEvents}, "", `{"type":"own","data":1}`,
			done{shown: `null`, typ: "text/plain; charset=utf-8", events: []string{`own 1`}},
		},
		"output that HTML would escape": {
			worker.Exec{Command: sh("yes '<&>' | head -c 3000000")}, "", "",
			done{output: strings.Repeat("<&>\n", 750_000), body: strings.Repeat("<&>\n", 750_000), typ: "text/plain; charset=utf-8"},
		},
		"output that is no text": {
			worker.Exec{Command: sh("head -c 300000 /dev/zero")}, "", "",
			done{output: strings.Repeat("\x00", 300_000), body: strings.Repeat("\x00", 300_000), typ: "text/plain; charset=utf-8"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := works(t, c.exec, millstream.Limits{})
			own := w.do("own", c.inputType, c.input)
			pulled := w.do("pulled", c.inputType, c.input)
			c.want.status, c.want.attempt = job.StatusSucceeded, 1
			if c.want.shown == "" {
				require.Contains(t, own.shown, `"href"`)
				c.want.shown = own.shown
			}
			requireDone(t, c.want, own)
			requireDone(t, c.want, pulled)
		})
	}
}

// requireDone compares jobs without printing megabytes.
func requireDone(t *testing.T, want, got done) {
	t.Helper()
	require.True(t, want.body == got.body, "%d bytes, not %d: %.200q, %s", len(got.body), len(want.body), got.body, got.problem)
	require.True(t, want.output == got.output, "%d bytes, not %d", len(got.output), len(want.output))
	want.body, want.output, got.body, got.output = "", "", "", ""
	require.Equal(t, want, got)
}

// Whatever the server takes at a time, what the command says comes to it, or it is said why not.
func TestWorkerOfAServerThatTakesLittle(t *testing.T) {
	t.Parallel()
	limits := millstream.Limits{Body: 8 << 10}
	t.Run("output", func(t *testing.T) {
		t.Parallel()
		script := `i=0; while [ $i -lt 50 ]; do echo $i >&2; i=$((i+1)); done; yes '<ü>' | head -c 100000; head -c 30000 /dev/zero`
		w := works(t, worker.Exec{Command: []string{"sh", "-c", script}}, limits)
		want := strings.Repeat("<ü>\n", 20_000) + strings.Repeat("\x00", 30_000)
		d := w.do("pulled", "", "")
		require.Equal(t, job.StatusSucceeded, d.status, d.problem)
		require.True(t, want == d.output)
		require.True(t, want == d.body)
		require.Len(t, d.events, 50)
	})
	t.Run("a result", func(t *testing.T) {
		t.Parallel()
		w := works(t, worker.Exec{Command: []string{"sh", "-c", "head -c 10000 /dev/zero"}, Stdout: worker.StdoutResult}, limits)
		d := w.do("pulled", "", "")
		require.Equal(t, job.StatusFailed, d.status)
		require.Equal(t, 1, d.attempt)
		require.Equal(t, "invalid-result: the server does not take the result: At most 8192 bytes are accepted.", d.problem)
	})
	t.Run("events", func(t *testing.T) {
		t.Parallel()
		w := works(t, worker.Exec{Command: []string{"cat"}, Stdout: worker.StdoutEvents}, millstream.Limits{})
		d := w.do("pulled", "", `{"type":"first","data":1}
			{"type":"twice","data":{"a":1,"a":2}}
			{"type":"deep","data":`+nested(63)+`}
			{"type":"last","data":4}
			{"type":"result","data":"done"}`)
		require.Equal(t, `"done"`, d.shown, d.problem)
		require.Equal(t, []string{
			`first 1`,
			`job.log {"stream":"millstream","line":"an event twice was left out: 0/data/a: is there twice"}`,
			`job.log {"stream":"millstream","line":"an event deep was left out: 0/data` + strings.Repeat("/0", 62) + `: is nested deeper than 64"}`,
			`last 4`,
		}, d.events)
	})
}

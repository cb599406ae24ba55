package worker_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

func TestHTTPEventStream(t *testing.T) {
	stored := make(chan job.Record, 10)
	url, _ := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, e := range []struct{ frame, typ, data string }{
			{": heartbeat\n\nevent: token\ndata: {\"a\": 1}\n\n", "token", `{"a":1}`},
			{"data:  42\n\n", "upstream.message", `" 42"`},
			{"event: error\ndata: over\ndata: loaded\n\n", "upstream.error", `"over\nloaded"`},
			{"id: 7\nevent: job.progress\ndata: {\"progress\":1}\n\n", "job.progress", `{"progress":1}`},
			{"event: job.progress\ndata: {\"done\":1}\n\n", "upstream.job.progress", `{"done":1}`},
			{"event: job.output\ndata: {\"chunk\":\"text\\n\"}\n\n", "job.output", `{"index":0,"chunk":"text\n"}`},
			{"event: job.succeeded\ndata: {}\n\n", "upstream.job.succeeded", `{}`},
			{"data: [DONE]\n\n", "upstream.message", `"[DONE]"`},
		} {
			_, _ = io.WriteString(w, e.frame)
			w.(http.Flusher).Flush()
			r := <-stored // each is relayed before the next is sent
			require.Equal(t, e.typ, string(r.Type))
			require.Equal(t, e.data, string(r.Data))
		}
	})
	s := sink{onRecord: func(r job.Record) { stored <- r }}
	out, err := s.http(t, worker.HTTP{URL: url}, "")
	require.NoError(t, err)
	require.Equal(t, `{"result":{"events":8}}`, string(out.Record.Data))
}

// A stream that ends in order, but not at the end of an event, has lost that event.
func TestHTTPEventStreamThatEndsInAnEvent(t *testing.T) {
	const detail = "the upstream's event stream ended in the middle of an event"
	for _, rest := range []string{"data: half", "data: no blank line\n", "event: token\n", "id: 7\n"} {
		url, _ := upstream(t, answer("text/event-stream", "data: whole\n\n"+rest))
		var s sink
		_, err := s.http(t, worker.HTTP{URL: url}, "")
		require.Contains(t, requireProblem(t, err, "outcome-unknown", false).Detail, detail, "%q", rest)
		_, err = s.http(t, worker.HTTP{URL: url, Idempotent: true}, "")
		require.Equal(t, detail, requireProblem(t, err, "upstream-failed", true).Detail)
		require.Equal(t, []string{`"whole"`, `"whole"`}, s.data("upstream.message"))
	}
	for _, rest := range []string{"", ":\n", ": bye\n\n", "retry: 10\n", "\r"} {
		url, _ := upstream(t, answer("text/event-stream", "data: whole\n\n"+rest))
		var s sink
		out, err := s.http(t, worker.HTTP{URL: url}, "")
		require.NoError(t, err, "%q", rest)
		require.Equal(t, `{"result":{"events":1}}`, string(out.Record.Data))
	}
}

func TestHTTPLinesOfEvents(t *testing.T) {
	body := `{"type":"job.progress","data":{"progress":1}}
{"type":"chunk","delta":"a foreign line keeps all its members"}

{"type":"own","data":1}
{"type":"job.log","data":{}}
{"type":"job.output","data":{"chunk":"/w==","encoding":"gzip"}}
no JSON
`
	url, _ := upstream(t, answer("application/x-ndjson", body))
	var s sink
	out, err := s.http(t, worker.HTTP{URL: url}, "")
	require.NoError(t, err)
	require.Equal(t, []string{`{"progress":1}`}, s.data(job.Progress))
	require.Equal(t, []string{`1`}, s.data("own"))
	require.Equal(t, `{"type":"chunk","delta":"a foreign line keeps all its members"}
{"type":"job.log","data":{}}
{"type":"job.output","data":{"chunk":"/w==","encoding":"gzip"}}
no JSON
`, string(s.output(t)))
	require.Equal(t, `{"result":{"events":2}}`, string(out.Record.Data))

	url, _ = upstream(t, answer("application/jsonl", body+`{"type":"result","data":{"a":1}}`))
	s = sink{}
	out, err = s.http(t, worker.HTTP{URL: url}, "")
	require.NoError(t, err)
	require.Equal(t, `{"result":{"a":1}}`, string(out.Record.Data))
}

func TestHTTPPlainLinesAreTheirOwnResult(t *testing.T) {
	body := `{"model":"m","response":"Hi"}` + "\n" + strings.Repeat("x", 600_000) + "\n" +
		strings.Repeat("x", 257<<10) + `{"type":"own"}` + "\n" + // the second piece of a line is not a line
		`{"done":true}` + "\n"
	url, _ := upstream(t, answer("application/x-ndjson", body))
	var s sink
	out, err := s.http(t, worker.HTTP{URL: url}, "")
	require.NoError(t, err)
	require.Equal(t, body, string(s.output(t)))
	require.True(t, requireResult(t, out, []byte(body), "application/x-ndjson").Output)
}

package e2e

import (
	"encoding/json"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The examples do what they say. Each runs as its own text has it, from the top of
// the repository.

func TestExampleFunc(t *testing.T) {
	t.Parallel()
	s := launch(t, buildExample(t, "func"))
	events := s.finished("primes", object{"below": 20_000})
	require.JSONEq(t, `{"count":2262}`, string(s.result(events[0].Job).Body))
	require.EqualValues(t, 541, first(events, "prime").field("n"))
	require.NotEmpty(t, first(events, "job.progress").Data)
}

func TestExampleExec(t *testing.T) {
	t.Parallel()
	s := launch(t, binary, "serve", "--config", "examples/exec/millstream.yaml")
	file, err := filepath.Abs("main_test.go")
	require.NoError(t, err)
	j := s.submitRaw("hash", "text/plain", []byte(file+"\n"))
	s.until(j.ID, "succeeded")
	want, err := exec.Command("sha256sum", file).Output()
	require.NoError(t, err)
	require.Equal(t, string(want), string(s.result(j.ID).Body))

	events := s.finished("thumbnails", []string{"a.png", "b.png"})
	require.Equal(t, "a.png", first(events, "thumbnail").field("name"))
	require.Equal(t, "a.png", first(events, "job.progress").field("message"))
	require.Equal(t, "reading a.png\nreading b.png\n", logged(events))
	require.JSONEq(t, `{"made":2}`, string(s.result(events[0].Job).Body))
}

func TestExampleLLM(t *testing.T) {
	t.Parallel()
	s := launch(t, binary, "serve", "--config", "examples/llm/millstream.yaml")
	model := exec.Command(buildExample(t, "llm"), "-pace", "10ms")
	require.NoError(t, model.Start())
	t.Cleanup(func() {
		_ = model.Process.Kill()
		_ = model.Wait()
	})
	eventually(t, "the model is there", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:8090")
		return err == nil && c.Close() == nil
	})
	var answer strings.Builder
	for _, e := range s.finished("chat", object{"prompt": "What is a millstream?"}) {
		var d struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if e.Type == "upstream.message" && json.Unmarshal(e.Data, &d) == nil {
			answer.WriteString(d.Choices[0].Delta.Content)
		}
	}
	require.Equal(t, "A millstream is the water that turns a mill. It does not wait for the miller.", answer.String())
}

func TestExampleBrowser(t *testing.T) {
	t.Parallel()
	page := serveFiles(t, "../examples/browser")
	s := launch(t, binary, "serve", "--cors-origins", page.URL)
	b := openPage(t, page.URL+"?base="+url.QueryEscape(s.base))
	pollPage(t, b, `document.forms[0].kind.options.length === 3`)
	evaluate[any](t, b, `{
		const form = document.forms[0]
		form.kind.value = 'echo'
		form.input.value = 'one two'
		form.requestSubmit()
	}`)
	pollPage(t, b, `document.body.dataset.stream === 'over'`)
	require.Equal(t, "succeeded", evaluate[string](t, b, `document.getElementById('state').textContent`))
	require.Equal(t, "one two", evaluate[string](t, b, `document.getElementById('output').textContent`))
	require.EqualValues(t, 1, evaluate[float64](t, b, `document.querySelector('progress').position`))
}

// finished submits a job, waits for its end and returns its events.
func (s *server) finished(kind string, input any) []event {
	s.t.Helper()
	events := s.events(s.submit(kind, input).ID, "").rest()
	require.Equal(s.t, "job.succeeded", events[len(events)-1].Type, "%s", events[len(events)-1].raw)
	return events
}

// first returns the first event of the type.
func first(events []event, kind string) event {
	for _, e := range events {
		if e.Type == kind {
			return e
		}
	}
	return event{}
}

func buildExample(t *testing.T, name string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", program, "./examples/"+name)
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

//go:build unix

package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// helper returns an Exec that runs a helper of the test binary.
func helper(args ...string) worker.Exec {
	return worker.Exec{
		Command: append([]string{os.Args[0]}, args...),
		Env:     map[string]string{helperEnv: "1"},
		Grace:   200 * time.Millisecond,
	}
}

func (s *sink) exec(t *testing.T, e worker.Exec, input string) (worker.Outcome, error) {
	t.Helper()
	return s.runAttempt(t, e.Func(), s.attempt(input), worker.Options{})
}

func TestExecLines(t *testing.T) {
	var s sink
	in := strings.Repeat("a line of text\n", 50_000) + "no line"
	out, err := s.exec(t, helper("cat"), in)
	require.NoError(t, err)
	require.Equal(t, in, string(s.output(t)))
	r := requireResult(t, out, []byte(in), "text/plain; charset=utf-8")
	require.True(t, r.Output)
	require.Empty(t, out.Piece)
	require.Empty(t, s.pieces)
}

func TestExecLinesInline(t *testing.T) {
	var s sink
	e := helper("cat")
	e.ResultType = "application/json"
	out, err := s.exec(t, e, "{\"words\": 3}\n")
	require.NoError(t, err)
	require.Equal(t, `{"result":{"words":3}}`, string(out.Record.Data))
	requireResult(t, out, []byte("{\"words\": 3}\n"), "application/json")
}

func TestExecResult(t *testing.T) {
	var s sink
	e := helper("cat")
	e.Stdout = worker.StdoutResult
	in := strings.Repeat("\x00\xff binary", 200_000)
	out, err := s.exec(t, e, in)
	require.NoError(t, err)
	require.Empty(t, s.stored())
	requireResult(t, out, []byte(in), "application/octet-stream")
	require.Equal(t, in, string(s.body(out)))
	require.Len(t, s.pieces, 3)
}

func TestExecEvents(t *testing.T) {
	var s sink
	e := helper("cat")
	e.Stdout = worker.StdoutEvents
	out, err := s.exec(t, e, `{"type":"job.progress","data":{"progress":1,"total":4}}
{"type":"page.done","data":[1, 2]}

{"type":"job.output","data":{"chunk":"text "}}
{"type":"job.output","data":{"chunk":"/w==","encoding":"base64"}}
{"type":"job.log","data":{"line":"a note"}}
{"type":"job.succeeded","data":{"result":1}}
no event
{"type":"job.progress","data":{"done":1}}
`+`{"type":"large","data":"`+strings.Repeat("x", 300_000)+`"}
{"type":"deep","data":`+string(nested(100_000))+`}
{"type":"deep","data":`+string(nested(100))+`}
{"type":"result","data":{"pages": 2}}
{"type":"bare"}`)
	require.NoError(t, err)
	require.Equal(t, []string{`{"progress":1,"total":4}`}, s.data(job.Progress))
	require.Equal(t, []string{`[1,2]`}, s.data("page.done"))
	require.Equal(t, []string{`{}`}, s.data("bare"))
	require.Equal(t, "text \xff", string(s.output(t)))
	logs := s.logs(t)
	require.Equal(t, logLine{"log", "a note"}, logs[0])
	for i, want := range []string{
		`line 7 of standard output has type "job.succeeded", which a worker may not write`,
		`line 8 of standard output is not an event`,
		`line 9 of standard output has no data that job.progress could have`,
		`line 10 of standard output is longer than an event may be`,
		`line 11 of standard output is not an event`,
		`an event deep is nested deeper than 64`,
	} {
		require.Equal(t, "millstream", logs[i+1].Stream)
		require.Contains(t, logs[i+1].Line, want)
	}
	require.Len(t, logs, 7)
	require.Equal(t, `{"result":{"pages":2}}`, string(out.Record.Data))
	requireResult(t, out, []byte(`{"pages":2}`), "application/json")
}

func TestExecEventsWithoutResult(t *testing.T) {
	var s sink
	e := helper("cat")
	e.Stdout = worker.StdoutEvents
	out, err := s.exec(t, e, `{"type":"own"}`)
	require.NoError(t, err)
	require.Equal(t, `{"result":null}`, string(out.Record.Data))
}

// A result that cannot be read is not taken for none.
func TestExecEventsWithALostResult(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{`{"type": "result", "data":"` + strings.Repeat("x", 300_000) + `"}`, "longer than"},
		{`{"type": "result", "data":[1,`, "it breaks off"},
		{`{"type":"result","data":NaN}`, "invalid character"},
		{`{"type":"result","data":` + string(nested(100_000)) + `}`, "max depth"},
	} {
		var s sink
		e := helper("cat")
		e.Stdout = worker.StdoutEvents
		_, err := s.exec(t, e, `{"type":"own"}`+"\n"+tt.line)
		p := requireProblem(t, err, "invalid-result", false)
		require.Contains(t, p.Detail, tt.want)
		require.Empty(t, s.logs(t))

		out, err := s.exec(t, e, tt.line+"\n"+`{"type":"result","data":2}`)
		require.NoError(t, err, "the last one counts")
		require.Equal(t, `{"result":2}`, string(out.Record.Data))
	}
}

// What a command that failed was about to say is not why it failed.
func TestExecEventsOfACommandThatDies(t *testing.T) {
	for _, half := range []string{`{"type":"result","data":[1,`, `{"type":"own","da`} {
		var s sink
		e := helper("cut", half, "out of memory\n")
		e.Stdout = worker.StdoutEvents
		_, err := s.exec(t, e, "")
		p := requireProblem(t, err, "exit-status", true)
		require.Equal(t, "signal: killed: out of memory", p.Detail)
	}
}

func TestExecFileDescriptor3(t *testing.T) {
	var s sink
	out, err := s.exec(t, helper("both"), `{"type":"job.progress","data":{"progress":1}}
{"type":"result","data":"just an event here"}
{"type":"stream.end"}`)
	require.NoError(t, err)
	require.Equal(t, `{"result":"on stdout\n"}`, string(out.Record.Data))
	require.Equal(t, []string{`{"progress":1}`}, s.data(job.Progress))
	require.Equal(t, []string{`"just an event here"`}, s.data("result"))
	logs := s.logs(t)
	require.Len(t, logs, 2)
	require.Contains(t, logs, logLine{"stderr", "on stderr"})
	bad := logs[slices.IndexFunc(logs, func(l logLine) bool { return l.Stream == "millstream" })]
	require.Contains(t, bad.Line, "line 3 of file descriptor 3")
}

// What is in a job never gets to where a shell, or the program, reads arguments.
func TestExecArgumentsAreExact(t *testing.T) {
	args := []string{"a b", "; touch pwned", "$(id)", "--output=/etc/x", "*", "", "'\"\\", "é"}
	var s sink
	e := helper(append([]string{"args"}, args...)...)
	out, err := s.exec(t, e, "$(id) > pwned")
	require.NoError(t, err)
	var d struct{ Result string }
	require.NoError(t, json.Unmarshal(out.Record.Data, &d))
	var got []string
	require.NoError(t, json.Unmarshal([]byte(d.Result), &got))
	require.Equal(t, args, got)
}

func TestExecEnvironmentIsFixed(t *testing.T) {
	t.Setenv("SECRET_KEY", "hunter2")
	t.Setenv("MILLSTREAM_NATS", "nats://user:password@example")
	var s sink
	e := helper("env")
	e.Env["LANG"] = "de_DE.UTF-8"
	e.Env["MILLSTREAM_JOB"] = "forged"
	_, err := s.exec(t, e, "")
	require.NoError(t, err)
	env := strings.Split(strings.TrimSpace(string(s.output(t))), "\n")
	var names []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	require.ElementsMatch(t, []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "MILLSTREAM_JOB", "MILLSTREAM_ATTEMPT", "MILLSTREAM_KIND", "MILLSTREAM_RUN", helperEnv}, names)
	require.Contains(t, env, "LANG=de_DE.UTF-8")
	require.Contains(t, env, "MILLSTREAM_JOB=job_01k3z9qv3sf1b8w6t6e2m0x4ya")
	require.Contains(t, env, "MILLSTREAM_ATTEMPT=1")
	require.Contains(t, env, "MILLSTREAM_KIND=test")
}

func TestExecWorksInADirectoryOfItsOwn(t *testing.T) {
	var s sink
	_, err := s.exec(t, helper("work"), "")
	require.NoError(t, err)
	dir := string(s.output(t))
	require.Contains(t, filepath.Base(dir), "millstream-work-")
	require.NoDirExists(t, dir)
}

func TestExecKeepsAGivenDirectory(t *testing.T) {
	var s sink
	e := helper("work")
	e.Dir = t.TempDir()
	_, err := s.exec(t, e, "")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(e.Dir, "a/b/c"))
}

func TestExecIgnoredInput(t *testing.T) {
	var s sink
	_, err := s.exec(t, helper("deaf"), strings.Repeat("x", 4<<20))
	require.NoError(t, err)
	require.Equal(t, "deaf", string(s.output(t)))
}

func TestExecExitStatus(t *testing.T) {
	var s sink
	_, err := s.exec(t, helper("fail", "3", "no such file\n"), "")
	p := requireProblem(t, err, "exit-status", true)
	require.Equal(t, "exit status 3: no such file", p.Detail)
	require.Equal(t, []logLine{{"stderr", "no such file"}}, s.logs(t))

	_, err = s.exec(t, helper("fail", "1", strings.Repeat("é", 50_000)+"the end"), "")
	p = requireProblem(t, err, "exit-status", true)
	require.True(t, strings.HasSuffix(p.Detail, "éthe end"))
	require.InDelta(t, 4<<10, len(p.Detail), 30)

	_, err = s.exec(t, helper("suicide"), "")
	p = requireProblem(t, err, "exit-status", true)
	require.Equal(t, "signal: killed", p.Detail)
}

func TestExecThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	plain, noise, orphan := filepath.Join(dir, "plain"), filepath.Join(dir, "noise"), filepath.Join(dir, "orphan")
	require.NoError(t, os.WriteFile(plain, []byte("x"), 0o600))
	require.NoError(t, os.WriteFile(noise, []byte("\x00\x01"), 0o700))
	require.NoError(t, os.WriteFile(orphan, []byte("#!/no/such/interpreter\n"), 0o700))
	for _, tt := range []struct {
		e    worker.Exec
		want string
	}{
		{worker.Exec{Command: []string{"no-such-command"}}, `"no-such-command" was not found in its PATH, /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`},
		{worker.Exec{Command: []string{"/no/such/command"}}, `"/no/such/command", or the interpreter that it names, was not found`},
		{worker.Exec{Command: []string{orphan}}, `orphan", or the interpreter that it names, was not found`},
		{worker.Exec{Command: []string{"sh"}, Env: map[string]string{"PATH": "/nowhere"}}, `"sh" was not found in its PATH, /nowhere`},
		{worker.Exec{}, "there is no command"},
		{worker.Exec{Command: []string{plain}}, "may not be executed"},
		{worker.Exec{Command: []string{noise}}, "may not be executed"},
		{worker.Exec{Command: []string{"true"}, Dir: "/no/such/directory"}, `directory "/no/such/directory" of the command was not found`},
		{worker.Exec{Command: []string{"true"}, Stdout: "paper"}, `"paper"`},
	} {
		var s sink
		_, err := s.exec(t, tt.e, "")
		p := requireProblem(t, err, "attempt-failed", false)
		require.Contains(t, p.Detail, tt.want)
	}
}

func TestExecThatDoesNotStartForOtherReasons(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var s sink
	_, err := s.exec(t, worker.Exec{Command: []string{"true"}, Dir: file}, "")
	requireProblem(t, err, "attempt-failed", true)
}

// A result that cannot be taken ends the command, and is the reason that is given.
func TestExecWhoseResultIsRefused(t *testing.T) {
	var s sink
	e := helper("loud")
	e.Grace = time.Minute // it has much to say
	e.Stdout = worker.StdoutResult
	_, err := s.runAttempt(t, e.Func(), s.attempt(""), worker.Options{Limits: worker.Limits{Result: 10}})
	requireProblem(t, err, "invalid-result", false)
	require.Equal(t, []logLine{{"stderr", "said all"}}, s.logs(t))
}

func TestExecLogLineOfFullLength(t *testing.T) {
	line := strings.Repeat("x", 64<<10)
	var s sink
	_, err := s.exec(t, helper("fail", "1", line+"\n\nend\n"), "")
	requireProblem(t, err, "exit-status", true)
	require.Equal(t, []logLine{{"stderr", line}, {"stderr", ""}, {"stderr", "end"}}, s.logs(t))
}

func TestExecFindsPrograms(t *testing.T) {
	var s sink
	out, err := s.exec(t, worker.Exec{Command: []string{"wc", "-w"}}, "one two three")
	require.NoError(t, err)
	require.Equal(t, `{"result":"3\n"}`, string(out.Record.Data))
}

// canceled runs the Exec until it has said what it waits for, and ends it then.
func (s *sink) canceled(t *testing.T, e worker.Exec, said string) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("somebody asked")
	var seen bytes.Buffer
	s.onRecord = func(r job.Record) {
		if seen.Write(r.Data); strings.Count(seen.String(), "ready") == strings.Count(said, "ready") {
			cancel(why)
		}
	}
	out, err := worker.Run(ctx, e.Func(), s.attempt(""), worker.Options{})
	require.Equal(t, why, err)
	require.Zero(t, out)
}

func TestExecMaySaveItsWork(t *testing.T) {
	var s sink
	e := helper("saver")
	e.Grace = time.Minute
	s.canceled(t, e, "ready")
	require.Equal(t, "ready\nsaved\n", string(s.output(t)))
}

// A command that has joined another process group is told to end as others are, and is
// ended as others are; and that group is not.
func TestExecThatStraysIsEnded(t *testing.T) {
	var s sink
	e := helper("saver", "stray")
	e.Grace = time.Minute
	s.canceled(t, e, "ready")
	require.Equal(t, "ready\nsaved\n", string(s.output(t)))

	addr, all := deaths(t, 1)
	e = helper("leaver", addr)
	e.Grace = time.Millisecond
	s.canceled(t, e, "ready")
	all()
}

// deaths waits for as many processes to connect, and returns what waits for the
// end of all of them.
func deaths(t *testing.T, n int) (addr string, all func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	require.NoError(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	return ln.Addr().String(), func() {
		for range n {
			conn, err := ln.Accept()
			require.NoError(t, err)
			_, _ = io.Copy(io.Discard, conn) // until the process is gone
			conn.Close()
		}
	}
}

func TestExecThatIgnoresSIGTERMIsKilled(t *testing.T) {
	addr, all := deaths(t, 1)
	var s sink
	s.canceled(t, helper("stubborn", addr), "ready")
	all()
}

func TestExecEndsItsChildrenToo(t *testing.T) {
	addr, all := deaths(t, 2)
	var s sink
	s.canceled(t, helper("family", addr), "ready ready")
	all()
}

// A child that was left behind with the pipes open neither holds up the end nor
// outlives it.
func TestExecOrphans(t *testing.T) {
	addr, all := deaths(t, 1)
	var s sink
	out, err := s.exec(t, helper("orphan", addr), "")
	require.NoError(t, err)
	require.Equal(t, `{"result":"ready\ndone\n"}`, string(out.Record.Data))
	all()
}

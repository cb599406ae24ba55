package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Stdout says what a command's standard output is.
type Stdout string

// What a command's standard output may be.
const (
	StdoutLines  Stdout = "lines"  // the default: job.output as it is written, and all of it the result
	StdoutResult Stdout = "result" // the result, byte for byte; nothing is shown before the end
	StdoutEvents Stdout = "events" // events, one JSON object a line; a line of type "result" has the result
)

// Exec runs a command for each attempt. The input is on its standard input, what
// it writes to standard error is job.log, and on file descriptor 3 (not on
// Windows) it may write events, one JSON object a line. No shell comes in between
// and nothing of a job gets into the arguments.
//
// The command gets no environment but Env, PATH, HOME, LANG, TZ, the job's id,
// attempt and kind as MILLSTREAM_JOB, MILLSTREAM_ATTEMPT and MILLSTREAM_KIND, and
// the attempt's mark as MILLSTREAM_RUN: the server's secrets stay its own. It and all
// it starts are one process group. When the attempt ends early the group gets SIGTERM
// and, after Grace, SIGKILL; when the command has ended, so does what it left running.
// On Linux that includes what has left the group, but kept the mark; and when the
// machine runs out of memory there, the command goes before the server.
type Exec struct {
	Command    []string          // the program and its arguments
	Stdout     Stdout            // "" is lines
	ResultType string            // media type of the result; "" is text/plain for lines, bytes for result
	Env        map[string]string // beside what every command gets, or in its place
	Dir        string            // working directory; "": a new temporary one, gone after the attempt, that is HOME and TMPDIR too
	Grace      time.Duration     // from SIGTERM to SIGKILL; 0 is 10 s
	Memory     int64             // bytes that each process of it may have (RLIMIT_DATA); 0: as many as it gets. On Linux
}

const (
	// defaultGrace is time for a well-behaved program to save its work.
	defaultGrace = 10 * time.Second

	// linger is how long what a command left running may go on to write: enough
	// for the end of a pipeline, too short to be taken for part of the work.
	linger = time.Second

	// stderrTail is how much of standard error an error quotes: what a screen shows.
	stderrTail = 4 << 10

	// defaultPath is the usual one of a system's daemons. It does not depend on who
	// started the server.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Func returns the Func that runs the command.
func (e Exec) Func() Func { return e.run }

func (e Exec) run(ctx context.Context, t *Task) (any, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	consume, result, err := e.stdout(t)
	if err != nil {
		return nil, err
	}
	input, err := t.OpenInput(ctx)
	if err != nil {
		return nil, err
	}
	defer input.Close()
	work, err := e.workDir(t)
	if err != nil {
		return nil, err
	}
	defer work.gone(t.log)
	p, err := e.start(t, work)
	if err != nil {
		return nil, e.notStarted(t, err)
	}
	stderr := tail{max: stderrTail}
	p.read(p.stdout, stop, consume)
	p.read(p.stderr, stop, func(r io.Reader) error { return t.logLines("stderr", io.TeeReader(r, &stderr)) })
	p.read(p.events, stop, (&reader{t: t, name: "file descriptor 3"}).read)
	p.feed(input, stop)
	p.wait(ctx, e.grace())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if state := p.cmd.ProcessState; !state.Success() {
		return nil, exitStatus(state, stderr.String())
	}
	return result()
}

// stdout returns what reads the command's standard output, and what then returns
// the result of a command that has succeeded.
func (e Exec) stdout(t *Task) (consume func(io.Reader) error, result func() (any, error), err error) {
	switch e.Stdout {
	case "", StdoutLines:
		return copyTo(t), func() (any, error) { return Output{Type: e.ResultType}, nil }, nil
	case StdoutResult:
		w := t.NewResult(e.ResultType)
		return copyTo(w), func() (any, error) { return w, nil }, nil
	case StdoutEvents:
		s := &reader{t: t, name: "standard output", results: true}
		return s.read, s.value, nil
	}
	return nil, nil, job.Problemf("attempt-failed", "a command's stdout cannot be %q", e.Stdout)
}

func copyTo(w io.Writer) func(io.Reader) error {
	return func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	}
}

// logLines says each line of r on a stream of the log.
func (t *Task) logLines(stream string, r io.Reader) error {
	inside := false
	return eachLine(r, t.out.chunk, func(line []byte, more bool) error {
		if len(line) > 0 || !inside {
			t.Log(stream, string(line))
		}
		inside = more
		return nil
	})
}

func (e Exec) grace() time.Duration {
	if e.Grace == 0 {
		return defaultGrace
	}
	return e.Grace
}

// workDir makes the attempt's directory. If another is configured it is no more than
// the place of the lock, without which an attempt can do.
func (e Exec) workDir(t *Task) (*workDir, error) {
	work, err := newWorkDir()
	if err != nil && e.Dir == "" {
		t.log.Error("no working directory", zap.Error(err))
		return nil, errors.New("the command has no place to work in")
	}
	sweepOnce(t.all)
	return work, nil
}

// environment returns the command's whole environment; of two entries of one name
// the later counts.
func (e Exec) environment(t *Task, work *workDir) []string {
	env := []string{"PATH=" + defaultPath, "HOME=" + e.dir(work), "LANG=C.UTF-8", "TZ=UTC"}
	if e.Dir == "" {
		env = append(env, "TMPDIR="+work.path)
	}
	for name, value := range e.Env {
		env = append(env, name+"="+value)
	}
	return append(env,
		"MILLSTREAM_JOB="+string(t.ID()),
		"MILLSTREAM_ATTEMPT="+strconv.Itoa(t.Attempt()),
		"MILLSTREAM_KIND="+t.Kind(),
		markName+"="+work.mark)
}

// dir returns the directory that the command works in.
func (e Exec) dir(work *workDir) string {
	if e.Dir != "" {
		return e.Dir
	}
	return work.path
}

// Missing says why the command cannot be run as things stand, with what was not found and
// where it was looked for; nil: it is there.
func (e Exec) Missing() error {
	path, err := e.program()
	if err == nil && (filepath.IsAbs(path) || e.Dir == "") {
		_, err = os.Stat(path)
	}
	if err != nil {
		return errors.New(e.missing(err))
	}
	return nil
}

// program returns the path of the program: of a bare name the one found in the PATH
// the command will have, of a relative one that from Dir, or from where the server
// runs if the command's directory is a new one.
func (e Exec) program() (string, error) {
	if len(e.Command) == 0 {
		return "", exec.ErrNotFound
	}
	name := e.Command[0]
	switch {
	case filepath.Base(name) == name:
	case e.Dir == "":
		return filepath.Abs(name)
	default:
		return name, nil
	}
	for _, dir := range filepath.SplitList(e.path()) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(p) {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}

// path returns the PATH that the command will have.
func (e Exec) path() string {
	if p, ok := e.Env["PATH"]; ok {
		return p
	}
	return defaultPath
}

// notStarted is the error of a command that could not be started. One that is not
// there, or not a program, will not be there in a second either; for anything else
// (processes, memory, files) the machine may have room again then.
func (e Exec) notStarted(t *Task, err error) error {
	t.log.Error("command did not start", zap.Strings("command", e.Command), zap.Error(err))
	p := job.Problemf("attempt-failed", "the command could not be started")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		p.Detail = e.missing(err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		p.Detail = "the command may not be executed"
	default:
		p.Retryable = true
	}
	return p
}

// missing says what was not found, and where it was looked for: the PATH is not that
// of the person who tries the command by hand.
func (e Exec) missing(err error) string {
	if len(e.Command) == 0 {
		return "there is no command"
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Sprintf("the command %q was not found in its PATH, %s", e.Command[0], e.path())
	}
	if _, err := os.Stat(e.Dir); e.Dir != "" && err != nil {
		return fmt.Sprintf("the directory %q of the command was not found", e.Dir)
	}
	return fmt.Sprintf("the command %q, or the interpreter that it names, was not found", e.Command[0])
}

func exitStatus(state *os.ProcessState, stderr string) error {
	p := job.Problemf("exit-status", "%s", state)
	if stderr != "" {
		p.Detail = fmt.Sprintf("%s: %s", state, stderr)
	}
	p.Retryable = true
	return p
}

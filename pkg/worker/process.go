package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// process is a running command. Its pipes are our own: those of package exec would
// tie the end of the command to that of everybody who has them open.
type process struct {
	cmd    *exec.Cmd
	mark   string // of all it starts
	stdin  *os.File
	stdout *pipe
	stderr *pipe
	events *pipe // nil where there is no file descriptor 3
	theirs []*os.File
	gone   chan struct{} // closed when the command has ended
	all    sync.WaitGroup
}

// start starts the command.
func (e Exec) start(t *Task, work *workDir) (*process, error) {
	program, err := e.program()
	if err != nil {
		return nil, err
	}
	p := &process{mark: work.mark, gone: make(chan struct{})}
	p.cmd = &exec.Cmd{Path: program, Args: e.Command, Dir: e.dir(work), Env: e.environment(t, work)}
	err = p.open()
	if err == nil {
		isolate(p.cmd)
		err = p.launch(e.Memory)
	}
	for _, f := range p.theirs {
		f.Close()
	}
	if err != nil {
		p.closeOurs()
		return nil, err
	}
	return p, nil
}

// open makes the pipes.
func (p *process) open() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	p.stdin, p.cmd.Stdin, p.theirs = w, r, append(p.theirs, r)
	for _, end := range p.ends() {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*end.pipe = &pipe{f: r}
		p.theirs = append(p.theirs, w)
		end.give(w)
	}
	return nil
}

// ends returns the pipes that the command writes to, and what tells it so.
func (p *process) ends() []end {
	ends := []end{
		{&p.stdout, func(w *os.File) { p.cmd.Stdout = w }},
		{&p.stderr, func(w *os.File) { p.cmd.Stderr = w }},
	}
	if hasExtraFiles {
		ends = append(ends, end{&p.events, func(w *os.File) { p.cmd.ExtraFiles = []*os.File{w} }})
	}
	return ends
}

type end struct {
	pipe **pipe
	give func(*os.File)
}

func (p *process) closeOurs() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	for _, end := range p.ends() {
		if pipe := *end.pipe; pipe != nil {
			pipe.f.Close()
		}
	}
}

// launch starts the command and waits for its end, from one thread: Linux kills
// the command with the thread that started it, not with our process.
func (p *process) launch(memory int64) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		if err == nil {
			confine(p.cmd.Process.Pid, memory, p.gone)
		}
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // ProcessState says how it ended
			close(p.gone)
		}
	}()
	return <-started
}

// feed writes the input. A command need not read it; but one that was to get all of it
// and does not, because it cannot be read, has done its work on half of it.
func (p *process) feed(input io.Reader, stop context.CancelCauseFunc) {
	p.all.Go(func() {
		whole := &failing{Reader: input}
		if _, _ = io.Copy(p.stdin, whole); whole.err != nil {
			stop(whole.err)
		}
		p.stdin.Close()
	})
}

// failing notes the error of a reader, which io.Copy does not tell from a writer's.
type failing struct {
	io.Reader
	err error
}

// Read reads on.
func (r *failing) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// read has f read the pipe. When f fails the command is in vain; what it says on
// its way out is read, so that it is not stuck.
func (p *process) read(from *pipe, stop context.CancelCauseFunc, f func(io.Reader) error) {
	if from == nil {
		return
	}
	p.all.Go(func() {
		if err := f(from); err != nil {
			stop(err)
			_, _ = io.Copy(io.Discard, from)
		}
	})
}

// wait waits until the command has ended and all it said is read. If ctx ends
// first, so does the command. What it started and left does not outlive it.
func (p *process) wait(ctx context.Context, grace time.Duration) {
	select {
	case <-p.gone:
	case <-ctx.Done():
		terminate(p.cmd.Process)
		select {
		case <-p.gone:
		case <-time.After(grace):
			kill(p.cmd.Process)
			<-p.gone
		}
	}
	silent := make(chan struct{})
	go func() {
		p.all.Wait()
		close(silent)
	}()
	select {
	case <-silent:
	case <-time.After(linger):
	}
	kill(p.cmd.Process)
	killMarked(p.mark)
	_ = p.stdin.SetWriteDeadline(time.Now())
	for _, end := range p.ends() {
		(*end.pipe).leave()
	}
	<-silent
	p.closeOurs()
}

// pipe is our end of a pipe that a command writes to.
type pipe struct {
	f     *os.File
	left  atomic.Bool
	rest  int           // bytes read since left
	spent time.Duration // waiting since left
}

// maxPipe is the most that a pipe holds: what Linux allows an ordinary user.
const maxPipe = 1 << 20

// Read reads from the pipe. Once the whole group of the command is gone it reads
// what is still in there and then, for a moment, waits for the end: if it does not
// come, somebody left the group without the mark and kept the pipe, and is none of
// ours.
func (p *pipe) Read(b []byte) (int, error) {
	if p.left.Load() {
		if p.rest >= maxPipe {
			return 0, io.EOF
		}
		begin := time.Now()
		defer func() { p.spent += time.Since(begin) }()
		_ = p.f.SetReadDeadline(begin.Add(linger - p.spent))
	}
	n, err := p.f.Read(b)
	if p.left.Load() {
		p.rest += n
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

// leave says that the command's group is gone.
func (p *pipe) leave() {
	p.left.Store(true)
	_ = p.f.SetReadDeadline(time.Now().Add(linger))
}

// tail keeps the last max bytes of what is written.
type tail struct {
	max int
	b   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-t.max):]...)
	if len(t.b) > 2*t.max {
		t.b = t.b[:copy(t.b, t.b[len(t.b)-t.max:])]
	}
	return len(p), nil
}

func (t *tail) String() string {
	b := bytes.TrimSpace(t.b[max(0, len(t.b)-t.max):])
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// Package proc runs the parts of the benchmark as processes of their own, so that
// what one of them costs is not billed to another. A part is this same program,
// started again in a role; its methods are called over its standard input and
// output, and it ends when those do.
package proc

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
)

// roleVariable names the role in a process's environment: not in its arguments,
// because a test binary has flags of its own.
const roleVariable = "MILLSTREAM_BENCH_ROLE"

// Profiles is the directory where each part leaves a CPU profile when it ends;
// empty: it leaves none.
var Profiles string

// Process is a part that runs.
type Process struct {
	*rpc.Client
	cmd *exec.Cmd
}

// pipes are both ends of a conversation.
type pipes struct {
	io.Reader
	io.WriteCloser
}

// Start starts this program again, in the given role.
func Start(role string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	if Profiles != "" {
		cmd.Env = append(cmd.Env, profileVariable+"="+filepath.Join(Profiles, role+"-"))
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{rpc.NewClient(pipes{stdout, stdin}), cmd}, nil
}

// Stop ends the process and waits until it is gone.
func (p *Process) Stop() error {
	return errors.Join(p.Close(), p.cmd.Wait())
}

// Kill ends the process as a crash does.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	_ = p.Close()    // the conversation is over already
	_ = p.cmd.Wait() // says that it was killed
	return err
}

// service is the name that the methods of a role are called by.
const service = "Part"

// Call calls a method of the part's.
func (p *Process) Call(method string, args, reply any) error {
	if err := p.Client.Call(service+"."+method, args, reply); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// Main plays the role that the process was started in, of those there are, until
// its input ends. It reports whether there was one.
func Main(roles map[string]any) (played bool, err error) {
	name := os.Getenv(roleVariable)
	if name == "" {
		return false, nil
	}
	server := rpc.NewServer()
	if err := errors.Join(server.RegisterName(service, roles[name]), server.RegisterName(meterService, meter{})); err != nil {
		return true, fmt.Errorf("role %q: %w", name, err)
	}
	stop, err := profile()
	if err != nil {
		return true, err
	}
	defer stop()
	conversation := pipes{os.Stdin, os.Stdout}
	os.Stdout = os.Stderr // whoever prints does not spoil the conversation
	server.ServeConn(conversation)
	return true, nil
}

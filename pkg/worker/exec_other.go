//go:build !unix

package worker

import (
	"os"
	"os/exec"
)

// hasExtraFiles reports whether a command can have a file descriptor 3.
const hasExtraFiles = false

// isolate does nothing: there are no process groups here.
func isolate(*exec.Cmd) {}

// terminate ends the process; there is no way to ask it to.
func terminate(p *os.Process) { _ = p.Kill() }

// kill ends the process.
func kill(p *os.Process) { _ = p.Kill() }

// lockDir locks nothing: what a killed process leaves, stays.
func lockDir(string) (*os.File, error) { return nil, nil }

// confine does nothing: nobody can bound the memory of another process here.
func confine(int, int64, <-chan struct{}) {}

//go:build unix

package worker

import (
	"os"
	"syscall"
)

// hasExtraFiles reports whether a command can have a file descriptor 3.
const hasExtraFiles = true

// terminate asks the process's group to end.
func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill ends all that is left of the process's group. The process may be gone: its
// id is not used again as long as the group has members, and hardly an instant
// after.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

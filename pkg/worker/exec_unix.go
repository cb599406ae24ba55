//go:build unix

package worker

import (
	"os"
	"syscall"
)

// hasExtraFiles reports whether a command can have a file descriptor 3.
const hasExtraFiles = true

// terminate asks the process and its group to end.
func terminate(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGTERM)
	if strayed(p) {
		_ = p.Signal(syscall.SIGTERM)
	}
}

// kill ends the process and all that is left of its group. The process may be gone:
// its id is not used again as long as the group has members, and hardly an instant
// after.
func kill(p *os.Process) {
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	_ = p.Kill()
}

// strayed reports whether the process has joined another group: ours is not to be
// told to end, and the process itself would not hear of what its own is told.
func strayed(p *os.Process) bool {
	group, err := syscall.Getpgid(p.Pid)
	return err == nil && group != p.Pid
}

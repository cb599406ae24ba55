package worker

import (
	"os/exec"
	"syscall"
)

// isolate gives the command a process group, and an end if ours comes first.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

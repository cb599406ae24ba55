//go:build unix && !linux

package worker

import (
	"os/exec"
	"syscall"
)

// isolate gives the command a process group.
func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

//go:build unix

package torture

import (
	"os"
	"syscall"
)

// canStop reports whether a process can be stopped for a while.
const canStop = true

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func freeze(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }

func thaw(pid int) error { return syscall.Kill(pid, syscall.SIGCONT) }

func killProcess(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

package worker

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolate gives the command a process group, and an end if ours comes first.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// expendable is what is added to the badness (0 to 1000) by which the kernel chooses
// whom to kill when there is no memory left: half the machine more than it has.
const expendable = "500"

// confine bounds the memory of a command that has just been started, and has the kernel
// prefer it to the server. What it starts inherits both.
func confine(pid int, memory int64) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(expendable), 0o600) // not where there is no /proc
	if memory > 0 {
		limit := uint64(memory)
		_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}, nil) // it may be gone already
	}
}

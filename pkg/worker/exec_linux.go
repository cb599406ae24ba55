package worker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// isolate gives the command a process group, and an end if ours comes first.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// expendable is what is added to the badness (0 to 1000) by which the kernel chooses
// whom to kill when there is no memory left: half the machine more than it has.
const expendable = 500

const (
	// mostConfined is how many processes of a command are looked at: what starts more at
	// once is not to be caught up with.
	mostConfined = 1000
	// confineAgain is when what is being started while its parent is confined is there.
	confineAgain = 2 * time.Millisecond
	// confineLast is the same on a machine that has much to do.
	confineLast = 50 * time.Millisecond
)

// confine bounds the memory of a command that has just been started, and has the kernel
// prefer it to the server. What it starts from now on inherits both; what it has started
// already is confined too, first the parent, then the children that it had before. One that
// is being started just now has what its parent had, and is not to be seen yet: so who has a
// limit is looked at again, until gone is closed.
func confine(pid int, memory int64, gone <-chan struct{}) {
	confineAll(pid, memory)
	if memory == 0 {
		return
	}
	go func() {
		for _, wait := range []time.Duration{confineAgain, confineLast} {
			select {
			case <-time.After(wait):
			case <-gone:
			}
			select {
			case <-gone: // the id may be another's now
				return
			default:
				confineAll(pid, memory)
			}
		}
	}()
}

func confineAll(pid int, memory int64) {
	for left, more := mostConfined, []int{pid}; left > 0 && len(more) > 0; left-- {
		pid, more = more[0], more[1:]
		confineOne(pid, memory)
		more = append(more, children(pid)...)
	}
}

// confineOne confines a process, unless it is already, or more than that.
func confineOne(pid int, memory int64) {
	name := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	text, err := os.ReadFile(name) // not where there is no /proc
	if score, bad := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && bad == nil && score < expendable {
		_ = os.WriteFile(name, []byte(strconv.Itoa(expendable)), 0o600) // it may be gone already
	}
	if memory > 0 {
		var was unix.Rlimit
		limit := uint64(memory)
		if err := unix.Prlimit(pid, unix.RLIMIT_DATA, nil, &was); err == nil && was.Max > limit {
			_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: min(was.Cur, limit), Max: limit}, nil)
		}
	}
}

// children returns the processes that a process has started, of each of its threads; none
// where the kernel does not tell (CONFIG_PROC_CHILDREN).
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // it may be gone already
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

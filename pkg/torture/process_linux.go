package torture

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"unsafe"
)

// withUs has a child die with us, however we end.
func withUs(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// children returns the processes that a process has started.
func children(parent int) (list []int) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err == nil && parentOf(pid) == parent {
			list = append(list, pid)
		}
	}
	return list
}

// parentOf returns the parent of a process; 0: it has ended.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte{' '}) // behind the name, which may have anything in it
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// canLimit reports whether the files of another process can be bounded.
const canLimit = true

// limitFiles lets a process write no file beyond so many bytes; 0: as it was. It takes
// no privileges, and the process is told as it is told of a full disk: by an error.
func limitFiles(pid int, bytes uint64) error {
	var limit syscall.Rlimit
	if err := prlimit(pid, nil, &limit); err != nil {
		return err
	}
	limit.Cur = bytes
	if bytes == 0 {
		limit.Cur = limit.Max
	}
	return prlimit(pid, &limit, nil)
}

func prlimit(pid int, set, get *syscall.Rlimit) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

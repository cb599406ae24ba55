package worker

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

const (
	// firstLook is the wait before processes are looked for again: to be killed takes
	// less.
	firstLook = time.Millisecond

	// lastLook is the longest wait, after twice that altogether: what is still there
	// will not go, or starts more faster than we end it.
	lastLook = 512 * time.Millisecond

	// execTime is how long a process may be about to become another program.
	execTime = 2 * firstLook
)

// killMarked kills the processes that were started with one of the marks in their
// environment, whatever group or session they are in, and returns how many there
// were. A process that was given another environment is not found.
func killMarked(marks ...string) (killed int) {
	if len(marks) == 0 {
		return 0
	}
	s := search{marks: marks, buf: make([]byte, 32<<10)}
	for wait := firstLook; wait <= lastLook; wait *= 2 {
		n, unclear := s.kill()
		killed = max(killed, n)
		if n == 0 && (!unclear || wait > execTime) {
			break
		}
		time.Sleep(wait)
	}
	return killed
}

// search looks for the processes that have one of the marks.
type search struct {
	marks []string
	buf   []byte // what an environment is read into
}

// kill kills what there is now; unclear says that some process had no environment,
// as one has for an instant when it becomes another program.
func (s *search) kill() (killed int, unclear bool) {
	for _, pid := range pids() {
		found, empty := s.look(pid)
		unclear = unclear || empty
		if found && s.killIf(pid) {
			killed++
		}
	}
	return killed, unclear
}

// killIf kills a process if it still is one that has a mark. It is held first: its
// id may belong to another at any moment, and (since Linux 5.4) that one is not hit.
func (s *search) killIf(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	found, _ := s.look(pid)
	return found && p.Kill() == nil
}

// pids returns the ids of all processes but this one.
func pids() (pids []int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read counts
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// look reports whether a process was started with one of the marks, and whether it
// is a program of ours that has no environment at all.
func (s *search) look(pid int) (found, empty bool) {
	proc := "/proc/" + strconv.Itoa(pid)
	env, err := s.read(proc + "/environ")
	if err != nil {
		return false, false // it has ended, or is not ours
	}
	if len(env) == 0 {
		_, err := os.Readlink(proc + "/exe")
		return false, err == nil // what has ended, and the kernel's own, is no program
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if mark, ok := bytes.CutPrefix(entry, []byte(markName+"=")); ok {
			return slices.Contains(s.marks, string(mark)), false
		}
	}
	return false, false
}

// read is os.ReadFile at a third of its cost, which every attempt has for every
// process there is. What it returns is valid until the next call.
func (s *search) read(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	for n := 0; ; {
		if n == len(s.buf) {
			s.buf = append(s.buf, make([]byte, n)...)
		}
		k, err := syscall.Read(fd, s.buf[n:])
		if k <= 0 {
			return s.buf[:n], err
		}
		n += k
	}
}

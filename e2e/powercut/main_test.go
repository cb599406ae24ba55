package powercut

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

var (
	cuts = flag.Int("cuts", 0, "cuts of the power; without any nothing is run")
	seed = flag.Uint64("seed", rand.Uint64(), "of everything random but the scheduler")
)

const usage = `powercut: nothing is run without -cuts N, which 'make powercut' gives.
It needs Linux and root, /dev/fuse, loop devices, mkfs.ext4, mount, umount and losetup:
the store under test lies on a file system of its own, on a disk that the test is itself.`

// insideVar says to a child that it is the one with the mounts.
const insideVar = "POWERCUT_INSIDE"

func TestMain(m *testing.M) {
	flag.Parse()
	if *cuts == 0 {
		fmt.Println(usage)
		return
	}
	if err := missing(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\nHere it cannot run:\n%v\n", usage, err)
		os.Exit(1)
	}
	if os.Getenv(insideVar) == "" {
		os.Exit(inside())
	}
	os.Exit(withBinary(m.Run))
}

// missing says what this machine lacks.
func missing() error {
	var all []error
	if os.Geteuid() != 0 {
		all = append(all, errors.New("not root"))
	}
	for _, name := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			all = append(all, err)
			continue
		}
		_ = f.Close()
	}
	for _, name := range []string{"mkfs.ext4", "mount", "umount", "losetup"} {
		if _, err := exec.LookPath(name); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// inside runs the tests in a process that has its mounts to itself: however it ends, the
// kernel unmounts them, and the loop devices go with them.
func inside() int {
	dir, err := os.MkdirTemp("", "millstream-powercut-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"=1", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func withBinary(run func() int) int {
	binary = filepath.Join(os.TempDir(), "millstream")
	build := exec.Command("go", "build", "-o", binary, "./cmd/millstream")
	build.Dir, build.Stdout, build.Stderr = filepath.Join("..", ".."), os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "millstream does not build:", err)
		return 1
	}
	return run()
}

package powercut

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the millstream under test.
var binary string

// patience is how long is waited for what must come; no measure of speed.
const patience = 60 * time.Second

// machine has a disk, and runs millstream with its store on it.
type machine struct {
	t       *testing.T
	dir     string // of this test; the disk is mounted at mnt in it
	disks   *disks
	disk    *disk
	lives   int // disks that were in it
	loop    string
	address string
	args    []string

	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File // of all processes
	read   int      // how much of it was looked at
}

// object is a YAML mapping.
type object map[string]any

// newMachine makes a machine with a formatted disk, which is mounted, for a millstream
// with this configuration.
func newMachine(t *testing.T, config object) *machine {
	m := &machine{t: t, dir: t.TempDir(), disk: newDisk(), address: freeAddress(t)}
	text, err := json.Marshal(config) // YAML is a superset of JSON
	require.NoError(t, err)
	file := filepath.Join(m.dir, "millstream.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	m.args = []string{"serve", "--config", file, "--listen", m.address, "--data", filepath.Join(m.mount(), "data")}
	m.log, err = os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	for _, dir := range []string{m.mount(), filepath.Join(m.dir, "disks")} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	m.disks, err = serveDisks(filepath.Join(m.dir, "disks"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.disks.server.Unmount() })
	m.attach()
	_, err = do("mkfs.ext4", "-q", "-b", fmt.Sprint(pageSize), m.loop)
	require.NoError(t, err)
	m.plug()
	t.Cleanup(m.off)
	return m
}

func (m *machine) mount() string { return filepath.Join(m.dir, "mnt") }

// attach makes the disk a block device.
func (m *machine) attach() {
	m.lives++
	var err error
	m.loop, err = do("losetup", "--find", "--show", m.disks.add(fmt.Sprint("disk", m.lives), m.disk))
	require.NoError(m.t, err)
}

// plug mounts the disk; the file system goes through its journal first.
func (m *machine) plug() {
	_, err := do("mount", "-t", "ext4", m.loop, m.mount())
	require.NoError(m.t, err, "the file system did not survive")
	_, err = do("losetup", "--detach", m.loop) // as soon as it is unmounted
	require.NoError(m.t, err)
}

// off ends the process with no chance to say or write a word, and takes the disk away.
func (m *machine) off() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		<-m.exited
		m.cmd = nil
	}
	_, err := do("umount", m.mount())
	require.NoError(m.t, err)
}

// replug takes the machine down, and puts the disk in that a cut has left.
func (m *machine) replug(left *disk) {
	m.off()
	m.disk = left
	m.attach()
	m.plug()
}

// start starts the process, and does not wait for it.
func (m *machine) start() {
	cmd, exited := exec.Command(binary, m.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(m.t, cmd.Start())
	m.cmd, m.exited = cmd, exited
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
}

// ready waits until it takes jobs.
func (m *machine) ready() {
	deadline, look := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer look.Stop()
	for !m.isReady() {
		select {
		case <-m.exited:
			m.t.Fatalf("the server ended before it was ready:\n%s", m.said())
		case <-deadline:
			m.t.Fatalf("the server is not ready:\n%s", m.said())
		case <-look.C:
		}
	}
}

func (m *machine) isReady() bool {
	resp, err := http.Get("http://" + m.address + "/readyz")
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// stop ends the process in order.
func (m *machine) stop() {
	require.NoError(m.t, m.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-m.exited:
		require.Zero(m.t, m.cmd.ProcessState.ExitCode(), "%s", m.said())
	case <-time.After(patience):
		m.t.Fatal("the server does not stop")
	}
	m.cmd = nil
}

// said returns what its processes logged since it was asked last.
func (m *machine) said() string {
	text, err := os.ReadFile(m.log.Name())
	require.NoError(m.t, err)
	since := m.read
	m.read = len(text)
	return string(text[since:])
}

// complaints returns the errors among that.
func (m *machine) complaints() (all []string) {
	for line := range strings.Lines(m.said()) {
		var entry struct{ Level string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "error" {
			all = append(all, line)
		}
	}
	return all
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// do runs a program to its end and returns what it said.
func do(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

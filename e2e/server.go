// Package e2e drives the real binary as its users do: over HTTP, through proxies
// and browsers, with kill -9. It knows the contract and nothing of the code.
package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the millstream that the tests drive: built as a user builds it, unless
// there is one to try.
var binary string

// patience is how long a test waits for what must come. It is no measure of
// speed: only a test that fails ever waits so long.
const patience = 60 * time.Second

// object is a JSON object, or a YAML mapping.
type object map[string]any

// server is a millstream in a process of its own, with a store of its own.
type server struct {
	client
	program []string // with its arguments
	log     *os.File
	cmd     *exec.Cmd
	exited  chan struct{}
}

// start runs a server with the configuration until the test ends.
func start(t *testing.T, config object) *server {
	t.Helper()
	text, err := json.Marshal(config) // YAML is a superset of JSON
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "millstream.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return launch(t, binary, "serve", "--config", file, "--log-level", "warn")
}

// launch runs a program that takes --listen and --data until the test ends.
func launch(t *testing.T, program ...string) *server {
	t.Helper()
	dir, address := t.TempDir(), freeAddress(t)
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	s := &server{
		client:  client{t: t, base: "http://" + address},
		program: append(program, "--listen", address, "--data", filepath.Join(dir, "data")),
		log:     log,
	}
	t.Cleanup(s.finish)
	s.boot()
	return s
}

// boot starts the process on its store, and returns when it is ready.
func (s *server) boot() {
	s.t.Helper()
	s.cmd = exec.Command(s.program[0], s.program[1:]...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = "..", s.log, s.log
	s.cmd.SysProcAttr = withUs
	require.NoError(s.t, s.cmd.Start())
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // ProcessState tells
	}()
	eventually(s.t, "the server is ready", func() bool {
		require.False(s.t, s.stopped(), "the server ended before it was ready: %s", s.said())
		resp, err := http.Get(s.base + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
}

// signal sends sig and returns the exit code: -1 after a kill.
func (s *server) signal(sig syscall.Signal) int {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(sig))
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("the server outlives %s", sig)
	}
	return s.cmd.ProcessState.ExitCode()
}

// offline runs a command on the store of a server that is not there.
func (s *server) offline(command string, args ...string) (out []byte, err error) {
	return exec.Command(binary, append([]string{command, "--data", s.data()}, args...)...).CombinedOutput()
}

// data is the directory of its store.
func (s *server) data() string { return s.program[len(s.program)-1] }

// kill ends the process as a crash does.
func (s *server) kill() { s.signal(syscall.SIGKILL) }

func (s *server) stopped() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// finish ends the process, and shows what it said if the test failed.
func (s *server) finish() {
	if s.exited != nil && !s.stopped() {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	if s.t.Failed() {
		s.t.Logf("the server said:\n%s", s.said())
	}
	_ = s.log.Close()
}

// said returns the end of what the server logged.
func (s *server) said() string {
	const most = 8 << 10
	text, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

func (s *server) address() string { return strings.TrimPrefix(s.base, "http://") }

// peak returns the most memory the process ever had resident, in bytes.
func (s *server) peak() int64 {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	require.NoError(s.t, err)
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	require.True(s.t, found)
	kilobytes, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(s.t, err)
	return kilobytes << 10
}

// withUs has a child die with the tests, however they end.
var withUs = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

// givenAddresses are those that freeAddress has returned.
var givenAddresses sync.Map

// freeAddress returns an address of this machine that nobody listens on, below the ports that
// connections and listeners on port 0 take: nobody takes it while a server is away.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		address := fmt.Sprint("127.0.0.1:", 15_000+rand.IntN(15_000))
		if _, given := givenAddresses.LoadOrStore(address, true); given {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			require.NoError(t, l.Close())
			return address
		}
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for look := time.NewTicker(10 * time.Millisecond); !holds(); {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

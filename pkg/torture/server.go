package torture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	logName    = "server.log"
	configName = "millstream.yaml"
	dataName   = "data"
	workName   = "work" // TMPDIR of the server: where its commands have their directories
)

const (
	// bootTime is how long a start may take: it takes a fraction of a second.
	bootTime = 2 * time.Minute
	// lookTime is how often it is looked whether the server is ready.
	lookTime = 10 * time.Millisecond
	// stopTime is how long an orderly stop may take, beyond what it is given.
	stopTime = time.Minute
)

// server is a millstream in a process of its own, which is killed and started again.
// Its methods but pid are called from one goroutine.
type server struct {
	binary, dir, address string
	log                  *os.File
	diary                *diary

	mu     sync.Mutex // protects the fields below
	cmd    *exec.Cmd
	exited chan struct{}
	ending bool // its end is ours
}

func newServer(binary, dir string) (*server, error) {
	s := &server{binary: binary, dir: dir}
	var err error
	if s.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, workName), 0o700); err != nil {
		return nil, err
	}
	if s.log, err = os.OpenFile(filepath.Join(dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	s.diary, err = openDiary(filepath.Join(dir, "server.jsonl"))
	return s, err
}

// freeAddress returns an address of this machine that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// boot starts the process on its store, and returns when it is ready.
func (s *server) boot(ctx context.Context) error {
	began := time.Now()
	cmd := exec.Command(s.binary, "serve", "--config", filepath.Join(s.dir, configName),
		"--listen", s.address, "--data", filepath.Join(s.dir, dataName), "--log-level", "warn", "--log-format", "json")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = append(environment(), "TMPDIR="+filepath.Join(s.dir, workName))
	withUs(cmd)
	exited := make(chan struct{})
	if err := cmd.Start(); err != nil {
		return err
	}
	go s.watch(cmd, exited)
	s.mu.Lock()
	s.cmd, s.exited, s.ending = cmd, exited, false
	s.mu.Unlock()
	if err := s.untilReady(ctx, exited); err != nil {
		return err
	}
	s.diary.note(entry{What: ready, For: time.Since(began)})
	return nil
}

// environment returns ours, without what would configure the server: it might be that of
// one that is needed.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MILLSTREAM_") })
}

// watch waits for the end of the process. One that nobody asked for is noted.
func (s *server) watch(cmd *exec.Cmd, exited chan struct{}) {
	_ = cmd.Wait() // ProcessState tells
	s.diary.note(entry{What: died, Detail: cmd.ProcessState.String()})
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ending {
		s.diary.note(entry{What: surprise, Detail: "the server ended by itself: " + cmd.ProcessState.String()})
	}
	close(exited)
}

var errGone = errors.New("the server ended before it was ready")

func (s *server) untilReady(ctx context.Context, exited chan struct{}) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTime, fmt.Errorf("the server was not ready within %s", bootTime))
	defer cancel()
	for pause(ctx, lookTime) {
		select {
		case <-exited:
			return errGone
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return context.Cause(ctx)
}

// alive reports whether the process is there.
func (s *server) alive() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// kill ends the process as a crash does.
func (s *server) kill() {
	s.expect()
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// stop ends the process in order.
func (s *server) stop() error {
	s.expect()
	if err := terminate(s.cmd.Process); err != nil {
		return err
	}
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			s.diary.note(entry{What: surprise, Detail: fmt.Sprintf("an orderly stop ended with %d", code)})
		}
	case <-time.After(stopTime):
		s.diary.note(entry{What: surprise, Detail: "an orderly stop did not end"})
		s.kill()
	}
	return nil
}

// expect says that the end of the process is no surprise.
func (s *server) expect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
}

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process.Pid
}

func (s *server) close() {
	if s.exited != nil && s.alive() {
		s.kill()
	}
	_ = s.log.Close()
	s.diary.close()
}

package main

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// leakFree runs the tests and fails if a goroutine is left behind.
type leakFree struct{ *testing.M }

func (m leakFree) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){"millstream": main})
}

// TestScripts runs the program as a user does: against a server that is none of
// ours and cuts every stream ($FAKE), and against one that the script starts.
func TestScripts(t *testing.T) {
	fake := httptest.NewServer(fakeServer())
	t.Cleanup(fake.Close) // not before the scripts are over, which run in parallel
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FAKE", fake.URL)
			env.Setenv("TZ", "UTC")
			for id, j := range fakeJobs {
				env.Setenv(strings.ToUpper(j.name), string(id))
			}
			for _, name := range []string{"unknown", "one", "gone"} { // of these not all is there
				env.Setenv(strings.ToUpper(name), string(fakeID(name)))
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "output"), []byte(fakeOutput), 0o600)
		},
		Condition: func(name string) (bool, error) {
			if name != "sighup" { // can be received: under nohup it cannot, nor in what is started there
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return !signal.Ignored(syscall.SIGHUP), nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code, "await": await, "sigterm": tell(syscall.SIGTERM), "sighup": tell(syscall.SIGHUP)},
	})
}

// code N CMD... runs a command and fails unless it ends with N.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N CMD...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("ended with %d, not %s", got, args[0])
	}
}

// await FILE REGEXP [VAR] waits until a file has a match, and puts its first
// group into a variable.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: await FILE REGEXP [VAR]")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	deadline := time.After(30 * time.Second)
	for {
		text, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		if m := re.FindSubmatch(text); m != nil {
			if len(args) == 3 {
				ts.Setenv(args[2], string(m[1]))
			}
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-deadline:
			ts.Fatalf("%s never had %s:\n%s", args[0], args[1], text)
		}
	}
}

// tell sends sig to what runs in the background.
func tell(sig syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 0 {
			ts.Fatalf("a signal takes no arguments")
		}
		for _, cmd := range ts.BackgroundCmds() {
			ts.Check(cmd.Process.Signal(sig))
		}
	}
}

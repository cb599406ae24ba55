//go:build unix

package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/millstream/millstream/pkg/worker"
)

func init() { runHelper = func(args []string) int { return helpers[args[0]](args[1:]) } }

// helpers are the commands that the tests run; their result is the exit code.
var helpers = map[string]func(args []string) int{
	"cat": func([]string) int {
		_, _ = io.Copy(os.Stdout, os.Stdin)
		return 0
	},
	"deaf": func([]string) int { // reads no input
		fmt.Print("deaf")
		return 0
	},
	"args": func(args []string) int {
		_ = json.NewEncoder(os.Stdout).Encode(args)
		return 0
	},
	"env": func([]string) int {
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return 0
	},
	"work": func([]string) int { // leaves files, some of them hard to remove
		dir, _ := os.Getwd()
		fmt.Print(dir)
		if os.MkdirAll("a/b", 0o755) != nil || os.WriteFile("a/b/c", []byte("x"), 0o400) != nil {
			return 1
		}
		return 0
	},
	"fail": func(args []string) int {
		fmt.Fprint(os.Stderr, args[1])
		code, _ := strconv.Atoi(args[0])
		return code
	},
	"suicide": func([]string) int { return suicide() },
	"cut": func(args []string) int { // is killed while it writes
		fmt.Print(args[0])
		fmt.Fprint(os.Stderr, args[1])
		return suicide()
	},
	"noise": func(args []string) int { // MiB without a newline, on both streams
		n, _ := strconv.Atoi(args[0])
		mib := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		for range n {
			_, _ = os.Stdout.Write(mib)
			_, _ = os.Stderr.Write(mib)
		}
		return 0
	},
	"both": func([]string) int { // events on file descriptor 3, from the input
		_, _ = io.Copy(os.NewFile(3, "events"), os.Stdin)
		fmt.Println("on stdout")
		fmt.Fprintln(os.Stderr, "on stderr")
		return 0
	},
	"saver": func(args []string) int { // saves its work when told to end
		stray(args)
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		fmt.Println("ready")
		<-told
		fmt.Println("saved")
		return 0
	},
	"leaver": func(args []string) int { // ignores SIGTERM, in its parent's group
		stray(args)
		signal.Ignore(syscall.SIGTERM)
		return stayUntilKilled(args)
	},
	"stubborn": func(args []string) int { // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		return stayUntilKilled(args)
	},
	"stay": stayUntilKilled,
	"loud": func([]string) int { // says much when told to end
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		fmt.Println("more than ten bytes")
		<-told
		_, _ = os.Stdout.Write(make([]byte, 1<<20))
		fmt.Fprintln(os.Stderr, "said all")
		return 0
	},
	"family": func(args []string) int { // a stubborn child, and itself
		child("stubborn", args[0], false)
		return stayUntilKilled(args)
	},
	"runaway": func(args []string) int { // a child that leaves the group, and itself
		child("stubborn", args[0], true)
		return stayUntilKilled(args)
	},
	"server": func(args []string) int { // runs a command that stays, as a server does
		var s sink
		e := helper(args[1], args[0])
		e.Dir = args[2]
		_, _ = worker.Run(context.Background(), e.Func(), s.attempt(""), worker.Options{})
		return 0
	},
	"orphan": func(args []string) int { // leaves a child behind that has its pipes open
		child("stubborn", args[0], false)
		fmt.Println("done")
		return 0
	},
	"escape": func(args []string) int { // leaves one behind that leaves the group too
		child("stay", args[0], true)
		fmt.Println("done")
		return 0
	},
}

// stray leaves the process's own group for that of its parent, if there is an argument.
func stray(args []string) {
	group, err := syscall.Getpgid(os.Getppid())
	if len(args) > 0 && (err != nil || syscall.Setpgid(0, group) != nil) {
		os.Exit(1)
	}
}

func suicide() int {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// stayUntilKilled connects to an address and stays; the other side sees the
// connection end when the process does.
func stayUntilKilled(args []string) int {
	conn, err := net.Dial("tcp", args[0])
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	if len(args) > 1 {
		os.NewFile(4, "ready").Close()
	}
	_, _ = io.CopyN(conn, conn, 1) // ends, with an answer, when told to
	return 0
}

// child starts a helper that shares all our pipes, and returns when it stays.
func child(name, addr string, away bool) {
	ready, w, _ := os.Pipe()
	cmd := exec.Command(os.Args[0], name, addr, "child")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "events"), w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: away}
	if cmd.Start() != nil {
		os.Exit(1)
	}
	w.Close()
	_, _ = io.ReadAll(ready)
}

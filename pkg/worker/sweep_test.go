//go:build unix

package worker_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// server starts a server with a command that stays, in a directory of its own or in
// dir, and returns the connections of the n processes that the command is.
func server(t *testing.T, temp, dir, command string, n int) (conns []net.Conn, kill func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	require.NoError(t, ln.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
	cmd := exec.Command(os.Args[0], "server", ln.Addr().String(), command, dir)
	cmd.Env = []string{helperEnv + "=1", "TMPDIR=" + temp}
	require.NoError(t, cmd.Start())
	for range n {
		conn, err := ln.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() }) // ends it where the server's end does not
		conns = append(conns, conn)
	}
	kill = sync.OnceFunc(func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return conns, kill
}

// The directory of a server that was killed is removed by the next one, and that of
// one that lives is not.
func TestExecSweepsAfterAKill(t *testing.T) {
	temp := t.TempDir()
	dirs := func() []string {
		dirs, err := filepath.Glob(filepath.Join(temp, "*"))
		require.NoError(t, err)
		return dirs
	}
	_, kill := server(t, temp, "", "stay", 1)
	require.Len(t, dirs(), 1)
	killed := dirs()[0]
	server(t, temp, "", "stay", 1)
	lives := slices.DeleteFunc(dirs(), func(d string) bool { return d == killed })
	require.Len(t, lives, 1)
	kill()
	server(t, temp, "", "stay", 1)
	require.Eventually(t, func() bool {
		_, err := os.Stat(killed)
		return errors.Is(err, fs.ErrNotExist)
	}, time.Minute, time.Millisecond)
	require.DirExists(t, lives[0])
}

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

// The directory of a server that was killed is removed by the next one, and that of
// one that lives is not.
func TestExecSweepsAfterAKill(t *testing.T) {
	temp := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	serve := func() (dir string, kill func()) {
		before, _ := filepath.Glob(filepath.Join(temp, "*"))
		cmd := exec.Command(os.Args[0], "server", ln.Addr().String())
		cmd.Env = []string{helperEnv + "=1", "TMPDIR=" + temp}
		require.NoError(t, cmd.Start())
		conn, err := ln.Accept()
		require.NoError(t, err)
		after, _ := filepath.Glob(filepath.Join(temp, "*"))
		dirs := slices.DeleteFunc(after, func(d string) bool { return slices.Contains(before, d) })
		require.Len(t, dirs, 1)
		return dirs[0], sync.OnceFunc(func() {
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			conn.Close() // ends the command where the server's end does not
		})
	}
	killed, kill := serve()
	lives, end := serve()
	defer end()
	kill()
	require.DirExists(t, killed)
	_, end = serve()
	defer end()
	require.Eventually(t, func() bool {
		_, err := os.Stat(killed)
		return errors.Is(err, fs.ErrNotExist)
	}, 10*time.Second, time.Millisecond)
	require.DirExists(t, lives)
}

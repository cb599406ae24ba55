package worker_test

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A child that left the group, and holds the pipes, neither holds up the end nor
// outlives it.
func TestExecEscapes(t *testing.T) {
	addr, all := deaths(t, 1)
	var s sink
	_, err := s.exec(t, helper("escape", addr), strings.Repeat("x", 1<<20))
	require.NoError(t, err)
	require.Equal(t, "ready\ndone\n", string(s.output(t)))
	all()
}

// Nor does the child of a command that is ended.
func TestExecEscapesTheEnd(t *testing.T) {
	addr, all := deaths(t, 2)
	var s sink
	s.canceled(t, helper("runaway", addr), "ready ready")
	all()
}

// What the command of a killed server has started is ended before the next one runs
// its first command.
func TestExecEndsWhatAKilledServerLeft(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		temp := t.TempDir()
		left, kill := server(t, temp, dir, "runaway", 2)
		lives, _ := server(t, temp, dir, "stay", 1)
		kill()
		server(t, temp, dir, "stay", 1)
		for _, conn := range left {
			_, err := conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		}
		_, err := lives[0].Write([]byte("x"))
		require.NoError(t, err)
		_, err = lives[0].Read(make([]byte, 1))
		require.NoError(t, err, "that of a server that lives is still there")
	}
}

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A reader whose machine has gone without a word, as a phone in a tunnel does, acknowledges nothing
// any more: its place is another's before long, though what is written to it seems to be on its way.
func TestVanishedReaderIsGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t, object{"heartbeat": "1s", "limits": object{"streams": 1}, "kinds": object{
		"slow":   object{"exec": object{"command": []string{"sleep", "3600"}}},
		"little": object{"exec": object{"command": []string{"true"}}},
	}})
	j, other := s.submit("slow", nil), s.submit("little", nil)
	s.until(other.ID, "succeeded")
	conn, err := net.Dial("tcp", s.address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", j.Links["events"], s.address())
	require.NoError(t, err)
	head, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, head, "200 OK")
	deafen(t, conn.(*net.TCPConn))

	place := func() int {
		return s.ask("GET", other.Links["events"], nil, "Accept", "application/x-ndjson").Status
	}
	require.Equal(t, http.StatusTooManyRequests, place())
	eventually(t, "its place is free", func() bool { return place() == http.StatusOK })
}

// deafen has the kernel throw away all that comes for the connection, unread and not acknowledged.
func deafen(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	filter := &unix.SockFprog{Len: 1, Filter: &nothing[0]}
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter)
	}))
	require.NoError(t, err)
}

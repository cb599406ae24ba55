package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A reader that stalls in the middle of a write, and does not go, is given up, and its place is
// another's.
func TestStalledReaderIsGivenUp(t *testing.T) {
	t.Parallel()
	const lines = 400_000 // 20 MB: more than the buffers between two sockets hold
	s := start(t, object{"limits": object{"streams": 1}, "kinds": object{
		"much":   object{"exec": object{"command": []string{"sh", "-c", fmt.Sprintf("yes 'a line that takes its place in a buffer' | head -n %d", lines)}}},
		"little": object{"exec": object{"command": []string{"true"}}},
	}})
	j, other := s.submit("much", nil), s.submit("little", nil)
	s.until(j.ID, "succeeded")
	s.until(other.ID, "succeeded")
	lazy, err := net.Dial("tcp", s.address())
	require.NoError(t, err)
	t.Cleanup(func() { _ = lazy.Close() })
	require.NoError(t, lazy.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = fmt.Fprintf(lazy, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", j.Links["events"], s.address())
	require.NoError(t, err)
	head, err := bufio.NewReaderSize(lazy, 16).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, head, "200 OK")

	place := func() int {
		return s.ask("GET", other.Links["events"], nil, "Accept", "application/x-ndjson").Status
	}
	require.Equal(t, http.StatusTooManyRequests, place())
	eventually(t, "its place is free", func() bool { return place() == http.StatusOK })
}

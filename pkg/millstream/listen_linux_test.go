package millstream

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The kernel is told of each connection how long it may go unheard.
func TestVanishedClientsAreGivenUp(t *testing.T) {
	for heartbeat, want := range map[time.Duration]time.Duration{time.Second: unheard, 15 * time.Second: 30 * time.Second} {
		ln, err := listen("127.0.0.1:0", heartbeat)
		require.NoError(t, err)
		defer func() { require.NoError(t, ln.Close()) }()
		client, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		defer func() { _ = client.Close() }()
		conn, err := ln.Accept()
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		var got int
		var failed error
		require.NoError(t, raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }))
		require.NoError(t, failed)
		require.EqualValues(t, want.Milliseconds(), got)
	}
}

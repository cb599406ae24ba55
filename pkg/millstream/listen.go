package millstream

import (
	"net"
	"time"
)

// unheard is how long a client may acknowledge nothing of what it is sent before it counts as
// gone, at least: a phone that changes its network is there again by then.
const unheard = 10 * time.Second

// listen listens where clients come. One that vanished without a word is noticed by the second
// heartbeat that it does not acknowledge: the kernel alone would go on for a quarter of an hour,
// and none of the writes fails meanwhile, as each has room in a buffer.
func listen(address string, heartbeat time.Duration) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return listener{ln, max(unheard, 2*heartbeat)}, nil
}

// listener has its connections given up when nothing that was sent on them is acknowledged for
// so long. Set on the listener it would be lost: Go's speaks MPTCP, which has no such option.
type listener struct {
	net.Listener
	patience time.Duration
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if c, ok := conn.(*net.TCPConn); ok {
		giveUpAfter(c, l.patience)
	}
	return conn, err
}

package e2e

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy passes connections on to a server, notes the requests in them, and cuts
// streams in the middle: the network of somebody on a train.
type proxy struct {
	net.Listener
	target string

	mu    sync.Mutex
	asked []*http.Request // of streams
	cuts  []int           // bytes that the coming streams may receive before they are cut
}

// newProxy passes on to target until the test ends. Each of the first streams is
// cut behind as many bytes as its number says.
func newProxy(t *testing.T, target string, cuts ...int) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, target: target, cuts: cuts}
	t.Cleanup(func() { _ = l.Close() })
	go p.run()
	return p
}

// URL returns where the proxy is reached.
func (p *proxy) URL() string { return "http://" + p.Addr().String() }

// streams returns the requests for streams so far.
func (p *proxy) streams() []*http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*http.Request(nil), p.asked...)
}

func (p *proxy) run() {
	for {
		conn, err := p.Accept()
		if err != nil {
			return
		}
		go p.pass(conn)
	}
}

// pass carries one connection until either side ends it or it is cut.
func (p *proxy) pass(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	down := &budget{Conn: client, left: -1}
	go func() {
		_ = p.up(server, bufio.NewReader(client), down)
		_ = server.Close()
	}()
	_ = copyAll(down, server)
	_ = client.Close()
	_ = server.Close()
}

// up passes requests on, one at a time.
func (p *proxy) up(server net.Conn, client *bufio.Reader, down *budget) error {
	for {
		r, err := http.ReadRequest(client)
		if err != nil {
			return err
		}
		if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			down.limit(p.note(r))
		}
		if err := r.Write(server); err != nil {
			return err
		}
	}
}

// note remembers a request for a stream and returns how far that may get.
func (p *proxy) note(r *http.Request) (cut int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, r)
	if len(p.cuts) == 0 {
		return -1
	}
	cut, p.cuts = p.cuts[0], p.cuts[1:]
	return cut
}

// budget is a connection that takes only so many bytes.
type budget struct {
	net.Conn
	mu   sync.Mutex
	left int // -1: no limit
}

var errCut = errors.New("the connection is cut")

func (b *budget) limit(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = n
}

// Write writes what the budget allows, and cuts the connection behind it.
func (b *budget) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 0 {
		return b.Conn.Write(p)
	}
	n, err := b.Conn.Write(p[:min(len(p), b.left)])
	b.left -= n
	if err == nil && b.left == 0 {
		err = errCut
	}
	return n, err
}

// copyAll copies by Write: io.Copy would let the connections splice past it.
func copyAll(to *budget, from net.Conn) error {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy passes connections on to a server, notes the requests in them, and cuts
// streams in the middle: the network of somebody on a train.
type proxy struct {
	net.Listener
	target string
	hurry  bool // has clients come back at once, whenever the server told them to

	away    atomic.Bool  // as if nobody were there
	refused atomic.Int64 // connections, because of that
	live    atomic.Int64 // connections with a stream that are open
	options atomic.Int64 // preflights, so far

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

// cut has the coming streams cut, behind as many bytes each.
func (p *proxy) cut(cuts ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = cuts
}

// whole reports whether no cuts are left.
func (p *proxy) whole() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.cuts) == 0
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
	if p.away.Load() {
		p.refused.Add(1)
		_ = client.Close()
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	down := &budget{Conn: client, cut: -1, left: -1, hurry: p.hurry}
	go func() {
		defer func() { _ = server.Close() }()
		_ = p.up(server, bufio.NewReader(client), down)
	}()
	_ = copyAll(down, server)
	p.keep(down.spare())
	_ = client.Close()
	_ = server.Close()
}

// up passes requests on, one at a time.
func (p *proxy) up(server net.Conn, client *bufio.Reader, down *budget) error {
	streams := false
	for {
		r, err := http.ReadRequest(client)
		if err != nil {
			return err
		}
		socket := r.Header.Get("Upgrade") != ""
		if socket || strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
			p.keep(down.spare())
			down.limit(p.note(r))
			if !streams {
				streams = true
				p.live.Add(1)
				defer p.live.Add(-1)
			}
		}
		if r.Method == http.MethodOptions {
			p.options.Add(1)
		}
		if err := r.Write(server); err != nil {
			return err
		}
		if socket {
			_, err := io.Copy(server, client)
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

// keep has the next stream cut where one would have been that ended before; -1: none would.
func (p *proxy) keep(cut int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cut >= 0 {
		p.cuts = append([]int{cut}, p.cuts...)
	}
}

// budget is a connection that takes only so many bytes.
type budget struct {
	net.Conn
	hurry bool
	mu    sync.Mutex
	cut   int // the limit that it had
	left  int // -1: no limit
}

var errCut = errors.New("the connection is cut")

func (b *budget) limit(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut, b.left = n, n
}

// spare returns the limit if it was not reached, and takes it away; else -1.
func (b *budget) spare() (cut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left <= 0 {
		return -1
	}
	b.left = -1
	return b.cut
}

// Write writes what the budget allows, and cuts the connection behind it.
func (b *budget) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hurry {
		p = hurried(p)
	}
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

var retries = regexp.MustCompile(`(?m)^retry: \d+`)

// hurried returns b with another time to come back in it, and as long as it was: the sizes of
// chunks are told before them.
func hurried(b []byte) []byte {
	return retries.ReplaceAllFunc(b, func(line []byte) []byte {
		return fmt.Appendf(nil, "retry: %0*d", len(line)-len("retry: "), 50)
	})
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

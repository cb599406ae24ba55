package torture

import (
	"errors"
	"io"
	"net"
	"sync"
)

// proxy passes connections on to the server, and cuts them: the network between.
type proxy struct {
	net.Listener
	target string

	mu    sync.Mutex
	pipes map[*pipe]bool
}

// pipe is one connection through the proxy.
type pipe struct {
	client, server net.Conn

	mu   sync.Mutex
	left int // bytes that the client may get before the cut; -1: no limit
}

var errCut = errors.New("the connection is cut")

func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{Listener: l, target: target, pipes: map[*pipe]bool{}}
	go p.run()
	return p, nil
}

// base returns the URL that clients use.
func (p *proxy) base() string { return "http://" + p.Addr().String() }

func (p *proxy) close() {
	_ = p.Close()
	p.cut(0)
}

// cut cuts each connection once its client has got so many bytes more.
func (p *proxy) cut(behind int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.pipes {
		c.limit(behind)
	}
}

func (p *proxy) run() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		go p.pass(client)
	}
}

// pass carries one connection until either side ends it or it is cut.
func (p *proxy) pass(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	c := &pipe{client: client, server: server, left: -1}
	p.mu.Lock()
	p.pipes[c] = true
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(onlyWriter{c}, server)
	_ = client.Close()
	_ = server.Close()
	p.mu.Lock()
	delete(p.pipes, c)
	p.mu.Unlock()
}

// onlyWriter hides what would let a copy go past Write.
type onlyWriter struct{ io.Writer }

func (c *pipe) limit(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left = n; n == 0 {
		c.cut()
	}
}

// Write gives the client what it may have, and cuts the connection behind it.
func (c *pipe) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left < 0 {
		return c.client.Write(b)
	}
	n, err := c.client.Write(b[:min(len(b), c.left)])
	if c.left -= n; err == nil && c.left == 0 {
		c.cut()
		err = errCut
	}
	return n, err
}

func (c *pipe) cut() {
	reset(c.client)
	reset(c.server)
}

// reset closes a connection as the network does when it forgets one: without a word.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

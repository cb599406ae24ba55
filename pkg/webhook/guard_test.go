package webhook

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/millstream/millstream/pkg/job"
)

// refused are addresses that nothing is sent to unless they are allowed.
var refused = []string{
	"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1",
	"169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255",
	"198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
	"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254",
	"ff02::1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1",
}

func networkOf(addr netip.Addr) string {
	if addr.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

func TestGuard(t *testing.T) {
	g := newGuard(nil)
	for _, text := range refused {
		addr := netip.MustParseAddr(text)
		at := netip.AddrPortFrom(addr, 443).String()
		require.ErrorIs(t, g.public(networkOf(addr), at, nil), errAddress, text)
		require.ErrorIs(t, g.listed(networkOf(addr), at, nil), errAddress, text)
	}
	for _, text := range []string{"8.8.8.8", "1.1.1.1", "2606:4700::1111", "172.32.0.1", "100.128.0.1", "126.255.255.255"} {
		addr := netip.MustParseAddr(text)
		at := netip.AddrPortFrom(addr, 8443).String()
		require.NoError(t, g.public(networkOf(addr), at, nil), text)
		require.ErrorIs(t, g.listed(networkOf(addr), at, nil), errAddress, "http:// is for what is listed")
	}
	require.ErrorIs(t, g.public("tcp4", "nonsense", nil), errAddress)
	some := newGuard([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("::1/128")})
	for text, ok := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "::1": true, "::2": false, "127.0.0.1": false, "64:ff9b::a01:203": false} {
		addr := netip.MustParseAddr(text)
		at := netip.AddrPortFrom(addr, 80).String()
		require.Equal(t, ok, some.public(networkOf(addr), at, nil) == nil, text)
		require.Equal(t, ok, some.listed(networkOf(addr), at, nil) == nil, text)
	}
}

// canary counts the connections that are made to it.
func canary(t *testing.T, network, address string) (at string, connections *atomic.Int64) {
	ln, err := net.Listen(network, address)
	require.NoError(t, err)
	connections = new(atomic.Int64)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-ended })
	return ln.Addr().String(), connections
}

// posting returns a Sender that sends as it does in earnest, and closes its connections.
func posting(t *testing.T, allow ...string) *Sender {
	w := newWorld(t)
	opt := Options{Keys: w.keys, Log: zap.NewNop()}
	for _, text := range allow {
		opt.Allow = append(opt.Allow, netip.MustParsePrefix(text))
	}
	s := New(w, opt)
	t.Cleanup(func() {
		s.secure.(*http.Transport).CloseIdleConnections()
		s.plain.(*http.Transport).CloseIdleConnections()
	})
	return s
}

func deliveryTo(url string) *job.Delivery {
	return &job.Delivery{ID: "1-1-1", Job: job.NewID(), URL: url, Body: []byte(`{}`)}
}

// Whatever form an address of this machine has in a URL, nothing is connected to.
func TestNoLoopback(t *testing.T) {
	at, connections := canary(t, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	for _, host := range []string{"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "[::]", "2130706433", "0x7f.1", "127.1", "017700000001"} {
		for _, scheme := range []string{"http", "https"} {
			s := posting(t)
			a := s.post(t.Context(), deliveryTo(scheme+"://"+host+":"+port+"/"))
			require.Error(t, a.err, host)
		}
	}
	require.Zero(t, connections.Load())
}

// resolver answers for every name with the address that was set last, however often it is asked.
func resolver(t *testing.T) (set func(address string)) {
	var address atomic.Pointer[string]
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				a := netip.MustParseAddr(*address.Load()).As4()
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 0}, Body: &dnsmessage.AResource{A: a}}}
			}
			packed, err := m.Pack()
			if err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return func(to string) { address.Store(&to) }
}

// A name that led to a public address when somebody looked leads to this machine when it is
// connected to.
func TestRebinding(t *testing.T) {
	at, connections := canary(t, "tcp", "127.0.0.1:0")
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	leads := resolver(t)
	leads("8.8.8.8")
	s := posting(t)
	url := "https://rebind.example:" + port + "/"
	require.NoError(t, s.Check(&job.Webhook{URL: url}))
	looked, err := net.DefaultResolver.LookupHost(t.Context(), "rebind.example.")
	require.NoError(t, err)
	require.Equal(t, []string{"8.8.8.8"}, looked)
	leads("127.0.0.1")
	a := s.post(t.Context(), deliveryTo(url))
	require.ErrorIs(t, a.err, errAddress)
	require.Equal(t, errAddress.Error(), a.reason())
	require.Equal(t, unasked, a.outcome())
	require.Zero(t, connections.Load())
}

// A receiver that may be sent to does not lead on to another.
func TestRedirectIsNotFollowed(t *testing.T) {
	at, connections := canary(t, "tcp", "127.0.0.1:0")
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	require.NoError(t, err)
	srv := &http.Server{Handler: http.RedirectHandler("http://"+at+"/", http.StatusFound)}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	s := posting(t, "127.0.0.0/8")
	a := s.post(t.Context(), deliveryTo("http://"+ln.Addr().String()+"/"))
	require.NoError(t, a.err)
	require.False(t, a.received())
	require.Contains(t, a.reason(), "302: a redirect, which is not followed")
	require.Zero(t, connections.Load())
}

// A proxy would be asked to connect to what we may not.
func TestNoProxy(t *testing.T) {
	s := posting(t)
	require.Nil(t, s.secure.(*http.Transport).Proxy)
	require.Nil(t, s.plain.(*http.Transport).Proxy)
}

func TestCheck(t *testing.T) {
	open, some := posting(t), posting(t, "10.0.0.0/8")
	for url, want := range map[string]string{
		"https://hooks.example/a?b=c":              "",
		"https://hooks.example:8443":               "",
		"https://8.8.8.8/":                         "",
		"HTTPS://hooks.example/":                   "",
		"":                                         "must be an https:// URL",
		"hooks.example":                            "must be an https:// URL",
		"ftp://hooks.example":                      "must be an https:// URL",
		"https://":                                 "must be an https:// URL",
		"https:///x":                               "must be an https:// URL",
		"https://hooks.example/a b":                "must have no spaces, and no letters but those of ASCII: a name has its form with xn--, other bytes are percent-encoded",
		"https://hööks.example/":                   "must have no spaces, and no letters but those of ASCII: a name has its form with xn--, other bytes are percent-encoded",
		"https://hooks.example/\n":                 "must have no spaces, and no letters but those of ASCII: a name has its form with xn--, other bytes are percent-encoded",
		"https://u@hooks.example/":                 "must not have a user or a password: what is sent is signed",
		"https://hooks.example/#x":                 "must not have a fragment",
		"https://hooks.example/#":                  "must not have a fragment",
		"https://hooks.example:0/":                 "must have a port from 1 to 65535, or none",
		"https://hooks.example:65536/":             "must have a port from 1 to 65535, or none",
		"http://hooks.example/":                    "must be an https:// URL: http:// is for addresses that webhooks.allow lists, and it lists none",
		"https://127.0.0.1/":                       "must not lead to 127.0.0.1: webhooks.allow does not list it",
		"https://[::ffff:127.0.0.1]/":              "must not lead to ::ffff:127.0.0.1: webhooks.allow does not list it",
		"https://10.0.0.1/":                        "must not lead to 10.0.0.1: webhooks.allow does not list it",
		"https://x/" + strings.Repeat("a", maxURL): "must be at most 2048 bytes",
	} {
		err := open.Check(&job.Webhook{URL: url})
		if want == "" {
			require.NoError(t, err, url)
			continue
		}
		require.EqualError(t, err, want, url)
	}
	require.NoError(t, some.Check(&job.Webhook{URL: "http://10.1.2.3:8080/"}))
	require.NoError(t, some.Check(&job.Webhook{URL: "http://inside.example/"}), "where it leads to shows when it is sent")
	require.Error(t, some.Check(&job.Webhook{URL: "http://8.8.8.8/"}))
	require.NoError(t, some.Check(&job.Webhook{URL: "https://8.8.8.8/"}))
}

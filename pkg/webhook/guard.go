package webhook

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// errAddress is the error of a receiver at an address that is not to be connected to.
var errAddress = errors.New("the receiver's address is none that webhooks may be sent to; see webhooks.allow")

// alsoRefused are public addresses that are none: where a cloud tells its machines what
// others must not know.
var alsoRefused = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")}

// guard says which addresses may be connected to. It is asked by the dialer, about the address
// that it is about to connect to: whatever a name led to when somebody looked before.
type guard struct {
	allow  []netip.Prefix
	others *ssrf.Guardian
}

func newGuard(allow []netip.Prefix) guard {
	allow = slices.Clone(allow)
	for i, p := range allow {
		allow[i] = unmapped(p)
	}
	return guard{allow, ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(alsoRefused...))}
}

// unmapped returns the prefix of IPv4 addresses that p is, if they are mapped into IPv6: what
// is compared with it is unmapped.
func unmapped(p netip.Prefix) netip.Prefix {
	if !p.Addr().Is4In6() || p.Bits() < 96 {
		return p
	}
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
}

// control is that of a net.Dialer.
type control func(network, address string, _ syscall.RawConn) error

// public lets through what is public, and what is allowed.
func (g guard) public(network, address string, c syscall.RawConn) error {
	if g.listed(network, address, c) == nil {
		return nil
	}
	if err := g.others.Safe(network, address, c); err != nil {
		return errAddress
	}
	return nil
}

// listed lets through what is allowed.
func (g guard) listed(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", errAddress, err)
	}
	for _, p := range g.allow {
		if p.Contains(at.Addr().Unmap()) {
			return nil
		}
	}
	return errAddress
}

// connectTime is how long a connection may take to be made, of tryTime.
const connectTime = 5 * time.Second

// transport returns a transport that connects as the guard says. It knows no proxy: the
// guard would see the proxy's address, and not where it leads.
func transport(c control) *http.Transport {
	d := net.Dialer{Timeout: connectTime, Control: c}
	return &http.Transport{
		DialContext: d.DialContext, TLSHandshakeTimeout: connectTime, ForceAttemptHTTP2: true,
		MaxIdleConns: maxBusy, MaxIdleConnsPerHost: hostBusy, MaxConnsPerHost: hostBusy, IdleConnTimeout: 30 * time.Second,
		MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
	}
}

// maxAnswer is how much of an answer is read, and thrown away, for the connection's sake.
const maxAnswer = 64 << 10

// letGo lets go of the connection of an answer, so that it can be used again. One that the
// receiver has switched to another protocol is closed: it is no longer the transport's, so
// that no deadline ends what is read of it.
func letGo(resp *http.Response) {
	if resp.StatusCode != http.StatusSwitchingProtocols {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	}
	_ = resp.Body.Close()
}

// withoutSource returns an error of a connection without the address of ours that it has: it
// may be one of an inner network, which a receiver's owner is not to know.
func withoutSource(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return &net.OpError{Op: op.Op, Net: op.Net, Addr: op.Addr, Err: op.Err}
	}
	return err
}

package forward

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// KeyHeader is a header with the caller's key of this server, where Authorization is that of
// the upstream.
const KeyHeader = "Millstream-Authorization"

// hopByHop are the headers of one connection (RFC 9110, 7.6.1, and what was used for the
// same), and those that say where a body ends or when to send it.
var hopByHop = []string{
	"Connection", "Content-Length", "Expect", "Http2-Settings", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// aboutCaller are headers by which a server in front of another says who its caller is, or what
// was asked for. What the caller says of that itself does not count, in whichever spelling: some
// servers take an underscore for a hyphen.
var aboutCaller = []string{
	"Client-Ip", "Forwarded", "Forwarded-For", "Proxy", "True-Client-Ip", "X-Client-Ip", "X-Forwarded", "X-Original-Url", "X-Real-Ip", "X-Rewrite-Url",
}

// aboutJob are headers by which the upstream knows of which job a request is: that is for us to
// say.
var aboutJob = []string{"Millstream-Attempt", "Millstream-Job"}

// credentials are the headers that say that a caller may.
var credentials = []string{"Authorization", "Cookie", "Cookie2"}

// ofBody are the headers without which a body is another.
var ofBody = []string{"Content-Encoding", "Content-Type"}

// Request returns the headers of a request that go upstream.
func (t *Target) Request(in http.Header) http.Header {
	out := http.Header{}
	named := connection(in)
	for name, values := range in {
		if t.Passes(name) && !slices.Contains(named, canonical(name)) {
			out[spelled(name)] = slices.Clone(values)
		}
	}
	return out
}

// Passes reports whether a header goes upstream.
func (t *Target) Passes(name string) bool { return t.passes(canonical(name)) }

func (t *Target) passes(name string) bool {
	switch {
	case slices.Contains(hopByHop, name), slices.Contains(aboutCaller, name), slices.Contains(aboutJob, name), strings.HasPrefix(name, "X-Forwarded-"), name == KeyHeader, name == "Host":
		return false
	case slices.Contains(credentials, name):
		return t.Credential
	case len(t.Headers) == 0, slices.Contains(ofBody, name):
		return true
	}
	return slices.ContainsFunc(t.Headers, func(allowed string) bool { return canonical(allowed) == name })
}

// CheckHeader fails on a header that cannot be one of a target's.
func (t *Target) CheckHeader(name string) error {
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return fmt.Errorf("%q cannot be a header", name)
	case slices.Contains(credentials, canonical(name)) && !t.Credential:
		return fmt.Errorf("%s passes with authorization: true only", name)
	}
	if bare := (&Target{Credential: true}); !bare.Passes(name) {
		return fmt.Errorf("%s is of the connection, of its caller or of this server, and never passes", name)
	}
	return nil
}

// Ours reports whether a header, in any spelling, is one that is said to this server.
func Ours(name string) bool { return strings.HasPrefix(canonical(name), "Millstream-") }

// canonical returns the name as net/http has it, and with a hyphen for an underscore.
func canonical(name string) string {
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// spelled returns the name as it is sent. One has a form of its own, which old servers compare
// letter by letter (SOAP 1.1, 6.1.1).
func spelled(name string) string {
	if name == "Soapaction" {
		return "SOAPAction"
	}
	return name
}

// connection returns the headers that a message says are of its connection.
func connection(h http.Header) (names []string) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			names = append(names, canonical(strings.TrimSpace(name)))
		}
	}
	return names
}

// siteWide are headers of an answer that speak for all of a server, which is not theirs when
// the answer is replayed.
var siteWide = []string{
	"Set-Cookie", "Set-Cookie2", "Accept-Ch", "Alt-Svc", "Clear-Site-Data", "Critical-Ch", "Expect-Ct", "Nel", "Public-Key-Pins",
	"Public-Key-Pins-Report-Only", "Report-To", "Reporting-Endpoints", "Sec-Session-Registration", "Secure-Session-Registration",
	"Service-Worker-Allowed", "Set-Login", "Strict-Transport-Security", "Use-As-Dictionary",
}

// Answer returns the headers of an answer that are kept with it, to be replayed.
func Answer(in http.Header) http.Header {
	out := http.Header{}
	named := connection(in)
	for name, values := range in {
		c := canonical(name)
		drop := slices.Contains(hopByHop, c) || slices.Contains(siteWide, c) || strings.HasPrefix(c, "Access-Control-") ||
			Ours(c) || slices.Contains(named, c)
		if !drop {
			out[name] = slices.Clone(values)
		}
	}
	return out
}

// Stored returns the headers of an answer that are kept with it. It is replayed under another
// path than it came from, so what is relative to that one is made absolute; and that to a HEAD
// says how long the one to a GET would be.
func Stored(r *http.Response) http.Header {
	h := Answer(r.Header)
	for _, name := range []string{"Location", "Content-Location"} {
		if u, err := url.Parse(h.Get(name)); err == nil && h.Get(name) != "" && u.Scheme == "" && u.Host == "" && !strings.HasPrefix(u.Path, "/") {
			u = r.Request.URL.ResolveReference(u)
			u.Scheme, u.Host = "", ""
			h.Set(name, u.String())
		}
	}
	if r.Request.Method == http.MethodHead && r.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	return h
}

// AddForwarded says on h from where r came: from the other end of the connection, for nobody
// is trusted to name another.
func AddForwarded(h http.Header, r *http.Request) {
	if ip, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		h.Set("X-Forwarded-For", ip)
	}
	h.Set("X-Forwarded-Host", r.Host)
	h.Set("X-Forwarded-Proto", "http")
	if r.TLS != nil {
		h.Set("X-Forwarded-Proto", "https")
	}
}

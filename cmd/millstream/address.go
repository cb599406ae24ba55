package main

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// isHost reports whether name is an address, or a name as it stands in a Host header:
// letters of other alphabets are sent in another spelling.
func isHost(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	const others = "-._"
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune(others, r)
	})
}

// isPort reports whether port is the number or the name of one; none is "".
func isPort(port string) bool {
	_, err := net.LookupPort("tcp", port)
	return err == nil
}

func checkListen(f *faults, address string) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil, host != "" && !isHost(host):
		f.add("listen", "%q is not an address: write it as 127.0.0.1:8080 or :8080", address)
	case !isPort(port):
		f.add("listen", "%q has no port between 0 and 65535", address)
	}
}

// checkHosts finds what no Host header can be. Its port does not count.
func checkHosts(f *faults, hosts []string) {
	for _, h := range hosts {
		u, err := url.Parse("//" + h)
		if err != nil || u.Host != h || !isHost(u.Hostname()) {
			f.add("hosts", "%q is not the name of a host: write it as jobs.example", h)
		}
	}
}

// checkOrigin holds an origin against what a browser sends: in small letters, without
// a path, a slash or the port that everybody knows.
func checkOrigin(f *faults, origin string) {
	u, err := url.Parse(origin)
	switch {
	case err != nil, u.Scheme+"://"+u.Host != origin, !isHost(u.Hostname()):
		f.add("cors.origins", "%q is not an origin: write it as https://app.example", origin)
	case strings.ToLower(origin) != origin:
		f.add("cors.origins", "%q has capital letters: a browser sends %s", origin, strings.ToLower(origin))
	case u.Scheme == "http" && u.Port() == "80", u.Scheme == "https" && u.Port() == "443":
		f.add("cors.origins", "%q has a port that browsers leave out: write it as %s://%s", origin, u.Scheme, strings.TrimSuffix(u.Host, ":"+u.Port()))
	}
}

// natsSchemes are what the library connects to.
var natsSchemes = []string{"nats", "tls", "ws", "wss"}

// natsServer reads one of the servers of nats: a URL, or host:port. It is nil for
// what is neither.
func natsServer(text string) *url.URL {
	text = strings.TrimSpace(text)
	isURL := strings.Contains(text, "://")
	if !isURL {
		text = natsSchemes[0] + "://" + text
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains(natsSchemes, u.Scheme) || !isHost(u.Hostname()) || !isPort(u.Port()) || !isURL && u.Port() == "" {
		return nil
	}
	return u
}

// checkNATS says nothing of what is before an @: that is a password.
func checkNATS(f *faults, servers string) {
	for server := range strings.SplitSeq(servers, ",") {
		if natsServer(server) == nil && servers != "" {
			shown := server[strings.LastIndexByte(server, '@')+1:]
			f.add("nats", "%q is not a server: write it as nats://host:4222 or host:4222, several with commas", shown)
		}
	}
}

// checkKey finds a key that no request can have.
func checkKey(f *faults, key, file string) {
	switch {
	case key != "" && file != "":
		f.add("key", "is there beside key_file: leave one of them out")
	case !isKey(key):
		f.add("key", "cannot be sent: it begins or ends with a space, or has characters that a header may not have")
	}
}

// isKey reports whether a key can be sent in a header.
func isKey(key string) bool {
	return strings.TrimSpace(key) == key && httpguts.ValidHeaderFieldValue(key)
}

package forward

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// headers reads a header a line.
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h[name] = append(h[name], value)
	}
	return h
}

func TestRequestHeaders(t *testing.T) {
	for name, tt := range map[string]struct {
		target   Target
		in, want http.Header
	}{
		"what is end to end goes as it is": {
			in:   headers("Accept: a", "Accept: b", "Accept-Encoding: br;q=1, gzip", "Range: bytes=0-", "If-None-Match: \"x\"", "X-Own: 1", "Content-Type: text/xml", "Content-Encoding: gzip"),
			want: headers("Accept: a", "Accept: b", "Accept-Encoding: br;q=1, gzip", "Range: bytes=0-", "If-None-Match: \"x\"", "X-Own: 1", "Content-Type: text/xml", "Content-Encoding: gzip"),
		},
		"what is of the connection does not": {
			in: headers("Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Te: trailers, deflate", "Trailer: X-Sum", "Transfer-Encoding: chunked",
				"Upgrade: websocket", "Http2-Settings: AAMA", "Proxy-Authorization: Basic x", "Proxy-Authenticate: Basic", "Content-Length: 7", "Expect: 100-continue", "Host: other", "X-Own: 1"),
			want: headers("X-Own: 1"),
		},
		"nor what the connection names, on any line, in any case": {
			in:   headers("Connection: close, x-one", "Connection: , X-Two ,,x_three", "X-One: 1", "X-Two: 2", "X-Three: 3", "X-Four: 4"),
			want: headers("X-Four: 4"),
		},
		"a second length or coding under another spelling": {
			in:   headers("Content_length: 0", "Transfer_encoding: chunked", "transfer-encoding: x", "CONTENT-LENGTH: 1", "X-Own: 1"),
			want: headers("X-Own: 1"),
		},
		"what the caller says of itself": {
			in: headers("Forwarded: for=1.1.1.1", "X-Forwarded-For: 1.1.1.1", "X_forwarded_for: 1.1.1.1", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /admin",
				"X-Real-Ip: 1.1.1.1", "Proxy: http://evil", "True-Client-Ip: 1.1.1.1", "X-Original-Url: /admin", "X-Rewrite-Url: /admin", "X-Own: 1"),
			want: headers("X-Own: 1"),
		},
		"credentials stay": {
			in:   headers("Authorization: Bearer x", "Cookie: a=b", "Millstream-Authorization: Bearer key", "X-Own: 1"),
			want: headers("X-Own: 1"),
		},
		"but if they are the upstream's": {
			target: Target{Credential: true},
			in:     headers("Authorization: Bearer x", "Cookie: a=b", "Millstream-Authorization: Bearer key", "Proxy-Authorization: Basic x"),
			want:   headers("Authorization: Bearer x", "Cookie: a=b"),
		},
		"a list is all there is, beside what says how to read the body": {
			target: Target{Headers: []string{"x-tenant", "SOAPAction"}},
			in:     headers("X-Tenant: 7", "Soapaction: \"a\"", "Accept: b", "User-Agent: c", "Content-Type: d", "Content-Encoding: gzip", "Authorization: e"),
			want:   headers("X-Tenant: 7", "SOAPAction: \"a\"", "Content-Type: d", "Content-Encoding: gzip"),
		},
		"SOAP 1.1 has a spelling of its own": {
			in:   headers("Soapaction: "),
			want: headers("SOAPAction: "),
		},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, tt.target.Request(tt.in)) })
	}
}

// Whatever a message says of its connection, nothing of that passes, and all else does.
func TestConnectionHeaders(t *testing.T) {
	names := rapid.SampledFrom([]string{"X-A", "x-b", "X_c", "Cookie", "Te", "Upgrade", "Accept", "close", "", " ", "\"", "X-A;q=1"})
	rapid.Check(t, func(t *rapid.T) {
		in := http.Header{}
		for _, name := range rapid.SliceOf(names).Draw(t, "headers") {
			in[name] = []string{"v"}
		}
		in["Connection"] = rapid.SliceOf(rapid.Map(rapid.SliceOf(names), func(n []string) string { return strings.Join(n, ",") })).Draw(t, "connection")
		named := connection(in)
		out := (&Target{Credential: true}).Request(in)
		for name := range in {
			drop := slices.Contains(named, canonical(name)) || slices.Contains(hopByHop, canonical(name))
			require.Equal(t, drop, out[name] == nil, "%q", name)
		}
	})
}

func TestAnswerHeaders(t *testing.T) {
	in := headers("Content-Type: text/xml", "Content-Encoding: gzip", "Etag: \"a\"", "Cache-Control: max-age=5", "Location: /x", "Www-Authenticate: Basic", "Content-Range: bytes 0-1/2",
		"Content-Disposition: attachment; filename=\"\xfc\"", "X-Own: 1",
		"Set-Cookie: a=b", "Set-Cookie2: a", "Connection: x-hop", "X-Hop: 1", "Keep-Alive: 1", "Transfer-Encoding: chunked", "Content-Length: 5", "Trailer: X-Sum", "Upgrade: h2c",
		"Proxy-Authenticate: Basic", "Strict-Transport-Security: max-age=1", "Clear-Site-Data: *", "Accept-Ch: Sec-CH-UA", "Critical-Ch: Sec-CH-UA", "Expect-Ct: max-age=1", "Use-As-Dictionary: match=\"/*\"", "Alt-Svc: h3", "Access-Control-Allow-Origin: *", "Millstream-Job: job_x", "Millstream-Token: x")
	require.Equal(t, headers("Content-Type: text/xml", "Content-Encoding: gzip", "Etag: \"a\"", "Cache-Control: max-age=5", "Location: /x", "Www-Authenticate: Basic", "Content-Range: bytes 0-1/2",
		"Content-Disposition: attachment; filename=\"\xfc\"", "X-Own: 1"), Answer(in))
}

func TestCheckHeader(t *testing.T) {
	for name, said := range map[string]string{
		"X-Tenant": "", "SOAPAction": "", "content-type": "", "User-Agent": "",
		"":                         "cannot be a header",
		"a b":                      "cannot be a header",
		"Authorization":            "authorization: true",
		"cookie":                   "authorization: true",
		"connection":               "never passes",
		"X-Forwarded-For":          "never passes",
		"x_forwarded_for":          "never passes",
		"Millstream-Authorization": "never passes",
		"Host":                     "never passes",
		"millstream_job":           "never passes",
	} {
		if err := new(Target).CheckHeader(name); said == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, said, name)
		}
	}
	require.NoError(t, (&Target{Credential: true}).CheckHeader("Cookie"))
}

func TestAddForwarded(t *testing.T) {
	r := &http.Request{RemoteAddr: "[::1]:7", Host: "api.example:8080"}
	h := headers("X-Forwarded-For: 1.1.1.1")
	AddForwarded(h, r)
	require.Equal(t, headers("X-Forwarded-For: ::1", "X-Forwarded-Host: api.example:8080", "X-Forwarded-Proto: http"), h)
}

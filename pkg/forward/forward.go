// Package forward has the rules by which a request goes on to another server and its
// answer comes back: which headers pass, when it may be sent again, and what its failure
// is called. Routes and HTTP workers share them.
package forward

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Target is an existing API, or a part of it, and what of a request goes there.
type Target struct {
	Path       string        // /legacy/* is all below /legacy/; any other is one path
	Upstream   *url.URL      // scheme and host; the full path of a request goes there
	Methods    []string      // that pass; nil: DefaultMethods
	Headers    []string      // that pass, beside those of the body; nil: all that are end to end
	Credential bool          // Authorization and Cookie pass too
	Idempotent bool          // a request may be sent any number of times
	Timeout    time.Duration // for the beginning of an answer; 0: as long as it takes
}

// DefaultMethods are those that go end to end (RFC 9110, 9 and RFC 5789): CONNECT asks for a
// tunnel, and TRACE shows a caller what headers arrived.
var DefaultMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// Takes reports whether requests with this method pass.
func (t *Target) Takes(method string) bool { return slices.Contains(t.methods(), method) }

// Allow returns the methods as the header Allow has them.
func (t *Target) Allow() string { return strings.Join(t.methods(), ", ") }

func (t *Target) methods() []string {
	if len(t.Methods) > 0 {
		return t.Methods
	}
	return DefaultMethods
}

// Covers reports whether the path, escaped as it came, is one of the target's.
func (t *Target) Covers(escaped string) bool {
	if below, all := strings.CutSuffix(t.Path, "*"); all {
		return strings.HasPrefix(escaped, below)
	}
	return escaped == t.Path
}

// unreserved are the characters that are the same in a path with and without escapes (RFC
// 3986, 2.3), but for letters and digits.
const unreserved = "-._~"

// CheckPath fails on a path that is not one of a target.
func CheckPath(path string) error {
	segments := strings.Split(strings.TrimSuffix(path, "/*"), "/")
	if segments[0] != "" || len(segments) < 2 {
		return fmt.Errorf("%q is not a path such as /legacy/* or /legacy/report", path)
	}
	for _, s := range segments[1:] {
		if s == "" || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
			return fmt.Errorf("%q: between slashes stand letters, digits and any of %s; a * only at the end, for all below", path, unreserved)
		}
	}
	return nil
}

func plain(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(unreserved, r)
}

// ParseUpstream reads the address of an upstream: scheme and host, nothing else.
func ParseUpstream(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("%q is not an http:// or https:// address", text)
	case u.User != nil:
		return nil, fmt.Errorf("an upstream's address has no credentials in it")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has more than a host: the full path of a request goes upstream", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// CheckMethod fails on what is no method, or one that does not go end to end.
func CheckMethod(method string) error {
	switch {
	case method == http.MethodConnect || method == http.MethodTrace:
		return fmt.Errorf("%s does not go end to end", method)
	case !httpguts.ValidHeaderFieldName(method) || method != strings.ToUpper(method):
		return fmt.Errorf("%q is not a method, such as %s", method, http.MethodPost)
	}
	return nil
}

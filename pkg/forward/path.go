package forward

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// EscapedPath returns the path of a request as it goes upstream: as it was sent, but what may
// not stand there has an escape. (*url.URL).EscapedPath is not that: of a path with one such
// character it makes all escapes anew, and the %2F in it a slash.
func EscapedPath(u *url.URL) string {
	if u.RawPath == "" {
		return u.EscapedPath()
	}
	var b strings.Builder
	for i := range len(u.RawPath) {
		if c := u.RawPath[i]; plain(rune(c)) || strings.IndexByte("%/!$&'()*+,;=:@[]", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(upperHex[c>>4]) + string(upperHex[c&15]))
		}
	}
	return b.String()
}

const upperHex = "0123456789ABCDEF"

// Climbs reports whether a path, without its escapes, may mean another one to who resolves
// it: it has a segment that is a dot or two. Some servers take its escapes away once more.
func Climbs(path string) bool {
	for range decodings {
		if climbs(path) {
			return true
		}
		again := escape.ReplaceAllStringFunc(path, decoded)
		if again == path {
			return false
		}
		path = again
	}
	return climbs(path)
}

// decodings is how often a path may lose escapes behind us: at a proxy, at a server and in
// its program.
const decodings = 3

// escape is what a lenient server takes for one, whatever else stands in the path.
var escape = regexp.MustCompile("%[0-9A-Fa-f]{2}")

func decoded(escape string) string {
	c, _ := strconv.ParseUint(escape[1:], 16, 8)
	return string([]byte{byte(c)})
}

// overlong are spellings of characters that UTF-8 forbids, and old decoders take.
var overlong = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\xc1\x9c", `\`)

// climbs looks at the path as it stands. Some servers take a backslash for a slash, drop what
// is behind a semicolon first, read no further than a zero, or drop blanks at the end.
func climbs(path string) bool {
	for segment := range strings.FieldsFuncSeq(overlong.Replace(path), func(r rune) bool { return r == '/' || r == '\\' }) {
		if i := strings.IndexAny(segment, ";?#\x00"); i >= 0 {
			segment = segment[:i]
		}
		if name := strings.TrimRight(segment, " \t\r\n"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

package handlers

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

// maxWait is the longest that a request is held: shorter than the patience of any
// proxy.
const maxWait = 30 * time.Second

// preferences are what a Prefer header (RFC 7240) asks for and this API knows.
type preferences struct {
	async bool          // respond-async
	waits bool          // wait was given
	wait  time.Duration // at most maxWait
}

// preferencesOf reads the request's Prefer headers. What is malformed or unknown
// is ignored, as the standard has it; of a preference named twice the first counts.
func preferencesOf(h http.Header) (p preferences) {
	seen := map[string]bool{}
	for _, element := range listed(h, "Prefer") {
		name, value, ok := preference(element)
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "respond-async":
			p.async = true
		case "wait":
			p.wait, p.waits = seconds(value)
		}
	}
	return p
}

// preference cuts one element of the list into its name and value. Parameters
// behind a semicolon are dropped: none that is known has any.
func preference(element string) (name, value string, ok bool) {
	main := split(element, ';')[0]
	name, value, _ = strings.Cut(main, "=")
	name = strings.ToLower(strings.TrimSpace(name))
	return name, unquote(strings.TrimSpace(value)), isToken(name)
}

// listed returns the elements of all headers of the name.
func listed(h http.Header, name string) []string {
	if list := listOf(h, name); list != "" {
		return split(list, ',')
	}
	return nil
}

// split cuts s at sep, but not within a quoted string.
func split(s string, sep byte) (parts []string) {
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++
		case !quoted && s[i] == sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unquote returns the text of a quoted string; any other s as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i+1 < len(s)-1 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isToken reports whether s is a token of RFC 9110 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// seconds reads delta-seconds: digits only. Any number that is too large, however
// long it is, means the most there is.
func seconds(s string) (d time.Duration, ok bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if limit := int(maxWait / time.Second); err != nil || n > limit {
		n = limit
	}
	return time.Duration(n) * time.Second, true
}

// applied tells which preferences were honoured; answered: with what was asked for,
// and not with a job that goes on.
func (p preferences) applied(c *gin.Context, answered bool) {
	var did []string
	if p.async && !answered {
		did = append(did, "respond-async")
	}
	if p.waits {
		did = append(did, "wait="+strconv.Itoa(int(p.wait/time.Second)))
	}
	if len(did) > 0 {
		c.Header("Preference-Applied", strings.Join(did, ", "))
	}
}

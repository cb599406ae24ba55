package forward

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What a server makes of a path that takes its escapes twice, ends texts at a zero, or knows
// files by names without the blanks behind them.
func TestClimbsInOtherSpellings(t *testing.T) {
	for path, climbs := range map[string]bool{
		"/legacy/%2e%2e/x": true, "/legacy/%252e./x": true, "/legacy/..%2fx": true, "/legacy/..%5cx": true, "/legacy/..%3b/x": true,
		"/legacy/..\x00/x": true, "/legacy/.. /x": true, "/legacy/..\t": true, "/legacy/..#/x": true, "/legacy/..?/x": true,
		"/legacy/\xc0\xae\xc0\xae/x": true, "/legacy/..\xc0\xafx": true, "/legacy/..\xc1\x9cx": true,
		"/legacy/%/%2e%2e/x": true, "/legacy/%zz%2e%2e/x": false, "/legacy/%": false, "/legacy/100%.x": false, "/legacy/a%2fb": false, "/legacy/a .": false, "/legacy/À®x": false, "/legacy/%2525": false, "/legacy/x#..": false,
	} {
		require.Equal(t, climbs, Climbs(path), "%q", path)
	}
	require.False(t, Climbs("/legacy/%"+strings.Repeat("25", 16<<10)+"2e%2e"), "nobody takes escapes that often, and it must not take long to see")
}

// An escape stays one, whatever stands beside it.
func TestEscapedPath(t *testing.T) {
	for raw, want := range map[string]string{
		"/legacy/a%2Fb|c":                 "/legacy/a%2Fb%7Cc",
		"/legacy/a%2fb\"":                 "/legacy/a%2fb%22",
		"/legacy/a%2Fb\xc3\xbc":           "/legacy/a%2Fb%C3%BC",
		"/legacy%2Fx^":                    "/legacy%2Fx%5E",
		"/legacy/a%2Fb":                   "/legacy/a%2Fb",
		"/legacy/a|b":                     "/legacy/a%7Cb",
		"/legacy/[1]!$&'()*+,;=:@-._~%7e": "/legacy/[1]!$&'()*+,;=:@-._~%7e",
	} {
		u, err := url.ParseRequestURI(raw)
		require.NoError(t, err)
		require.Equal(t, want, EscapedPath(u), raw)
	}
}

// It is the same path to who takes the escapes away, and one that net/url sends as it is.
func TestEscapedPathIsThatPath(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"a", "/", "%2F", "%2f", "%7C", "|", "\"", "\xff", "ü", "{", " ", "%25", ";", "[", "*", ":", "%3A", "\\"})
	parsed := func(path []string) bool {
		_, err := url.ParseRequestURI("/" + strings.Join(path, ""))
		return err == nil
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := "/" + strings.Join(rapid.SliceOf(pieces).Filter(parsed).Draw(t, "path"), "")
		u, err := url.ParseRequestURI(raw)
		require.NoError(t, err)
		path := EscapedPath(u)
		require.Equal(t, strings.Count(raw, "/"), strings.Count(path, "/"))
		again, err := url.ParseRequestURI(path)
		require.NoError(t, err)
		require.Equal(t, u.Path, again.Path)
		require.Equal(t, path, again.EscapedPath())
	})
}

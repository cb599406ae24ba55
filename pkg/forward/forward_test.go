package forward

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPaths(t *testing.T) {
	for path, sound := range map[string]bool{
		"/legacy/*": true, "/legacy": true, "/a/b.c/d~e_f-g/*": true, "/v2.1/x": true,
		"": false, "/": false, "*": false, "legacy/*": false, "/legacy/": false, "/legacy*": false, "/a/*/b": false, "/*": false, "//": false, "/a//b": false,
		"/a/../b": false, "/./*": false, "/a b": false, "/%61/*": false, "/ä/*": false, "/a?b": false, "/a;b": false, "http://x/y": false,
	} {
		require.Equal(t, sound, CheckPath(path) == nil, path)
	}
	below, one := Target{Path: "/legacy/*"}, Target{Path: "/soap/Report"}
	for path, covered := range map[string]bool{
		"/legacy/": true, "/legacy/x/y": true, "/legacy/%2F": true, "/legacy//x": true,
		"/legacy": false, "/legacyx": false, "/%6Cegacy/x": false, "/legacy%2Fx": false, "/Legacy/x": false, "/": false,
	} {
		require.Equal(t, covered, below.Covers(path), path)
	}
	require.True(t, one.Covers("/soap/Report"))
	require.False(t, one.Covers("/soap/Report/"))
}

// To an upstream that resolves it, none of these is below the route's path.
func TestClimbs(t *testing.T) {
	for path, climbs := range map[string]bool{
		"/legacy/../admin": true, "/legacy/x/..": true, "/legacy/.": true, `/legacy/..\admin`: true, `/legacy\..\admin`: true, "/legacy/..;/admin": true, "/legacy/.;a=b/": true,
		"/legacy/..x": false, "/legacy/x..y": false, "/legacy/...": false, "/legacy/a;..": false, "/legacy//": false, "/legacy/.well-known": false,
	} {
		require.Equal(t, climbs, Climbs(path), path)
	}
}

func TestParseUpstream(t *testing.T) {
	for text, said := range map[string]string{
		"http://legacy:8080": "", "https://legacy.internal/": "", "http://[::1]:80": "",
		"":                     "is not an http",
		"legacy:8080":          "is not an http",
		"ftp://x":              "is not an http",
		"http://":              "is not an http",
		"http://a:b@x":         "no credentials",
		"http://x/base":        "full path",
		"http://x?y":           "full path",
		"http://x/#y":          "full path",
		"http://x:port":        "is not an http",
		"http://legacy:8080//": "full path",
	} {
		u, err := ParseUpstream(text)
		if said != "" {
			require.ErrorContains(t, err, said, text)
			continue
		}
		require.NoError(t, err, text)
		require.Empty(t, u.Path)
	}
}

func TestMethods(t *testing.T) {
	for _, m := range append(DefaultMethods, "PROPFIND", "M-SEARCH") {
		require.NoError(t, CheckMethod(m))
	}
	for _, m := range []string{"", "get", "CONNECT", "TRACE", "A B"} {
		require.Error(t, CheckMethod(m), m)
	}
	require.True(t, new(Target).Takes("PATCH"))
	require.False(t, new(Target).Takes("TRACE"))
	only := Target{Methods: []string{"GET", "HEAD"}}
	require.False(t, only.Takes("POST"))
	require.Equal(t, "GET, HEAD", only.Allow())
}

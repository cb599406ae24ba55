package millstream

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// What could not be served is told before anything is opened.
func TestRouteConfig(t *testing.T) {
	up := &url.URL{Scheme: "http", Host: "legacy.invalid"}
	for said, kinds := range map[string][]Kind{
		"":                         {Route("a", Target{Path: "/a/*", Upstream: up}), Route("b", Target{Path: "/a/b", Upstream: up})},
		"it has no upstream":       {Route("a", Target{Path: "/a/*"})},
		"Millstream's own":         {Route("a", Target{Path: "/v1/x", Upstream: up})},
		"is not a path":            {Route("a", Target{Path: "a", Upstream: up})},
		"there are two of it":      {Route("a", Target{Path: "/a", Upstream: up}), Route("a", Target{Path: "/b", Upstream: up})},
		"there are two routes of ": {Route("a", Target{Path: "/a", Upstream: up}), Route("b", Target{Path: "/a", Upstream: up})},
	} {
		err := Config{}.validate(kinds)
		if said == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, said)
	}
	once, again := Route("a", Target{Path: "/a", Upstream: up}), Route("a", Target{Path: "/a", Upstream: up, Idempotent: true})
	require.True(t, once.AtMostOnce)
	require.False(t, again.AtMostOnce)
	require.Equal(t, "/a", once.Path())
}

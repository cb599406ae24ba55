package forward

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// foreign is a transport that a program has put in the place of net/http's own.
type foreign struct{ http.RoundTripper }

func TestStandardTransport(t *testing.T) {
	own := &http.Transport{MaxIdleConns: 7}
	require.Equal(t, 7, standard(own).MaxIdleConns, "what the program has set up")
	require.NotSame(t, own, standard(own))

	plain := standard(foreign{own})
	require.NotNil(t, plain.Proxy)
	require.NotNil(t, plain.DialContext)
	require.True(t, plain.ForceAttemptHTTP2)
}

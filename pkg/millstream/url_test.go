package millstream

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// The URL that is told is one that is answered.
func TestAskable(t *testing.T) {
	for at, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "192.0.2.7:80": "192.0.2.7:80",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", at)
		require.NoError(t, err)
		require.Equal(t, want, askable(tcp))
	}
}

package torture

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A connection that is to be cut behind some bytes passes these, and is reset then.
func TestProxyCuts(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush() // the header
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	defer server.Close()
	p, err := newProxy(server.Listener.Addr().String())
	require.NoError(t, err)
	defer p.close()
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Get(p.base())
	require.NoError(t, err)
	<-begun
	p.cut(1000)
	close(goOn)
	got, err := io.ReadAll(resp.Body)
	require.Error(t, err)
	require.LessOrEqual(t, len(got), 1000)
	require.NotEmpty(t, got)
	require.NoError(t, resp.Body.Close())
}

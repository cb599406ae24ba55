package webhook

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// All connections to a host that are in use are used again: a burst costs a handshake each
// only once.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var connections atomic.Int64
	var together sync.WaitGroup // the tries of a round
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		together.Done()
		together.Wait()
		w.WriteHeader(http.StatusNoContent)
	}))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	s := posting(t, "127.0.0.0/8")
	const rounds = 5
	for range rounds {
		together.Add(hostBusy)
		var tries sync.WaitGroup
		for range hostBusy {
			tries.Go(func() {
				a := s.post(t.Context(), deliveryTo(srv.URL))
				require.True(t, a.received(), a.err)
			})
		}
		tries.Wait()
	}
	// net/http lets go of one that is slow to tell of its last write, of which a busy machine has
	// some. Were no more of them kept than it keeps by itself, all others would be new in each round.
	require.Less(t, connections.Load(), int64(hostBusy+(rounds-1)*(hostBusy-http.DefaultMaxIdleConnsPerHost)/2))
}

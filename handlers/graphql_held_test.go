package handlers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// Who has let go of its operations begins others at once, before the server is done with the
// first.
func TestGraphQLSocketChange(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.enter()
		for round := range 20 {
			for i := range maxOperations {
				p.subscribe(fmt.Sprint(round, " ", i), seqQuery, "job", id)
			}
			seen := map[string]bool{}
			for range maxOperations {
				m := p.hear()
				require.Contains(t, m, `"type":"next"`)
				seen[m] = true
			}
			require.Len(t, seen, maxOperations)
			for i := range maxOperations {
				p.say(fmt.Sprintf(`{"type":"complete","id":"%d %d"}`, round, i))
			}
		}
		require.NoError(t, p.CloseNow())
	}, func(a *API) { a.Streams = 1000 })
}

// Who takes a long message slowly, but as fast as is asked for, is not let go for a ping that
// is behind it.
func TestGraphQLSocketSlowReader(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, `"`+strings.Repeat("slow ", 12<<10)+`"`)
		raw, err := s.wire.dial(t.Context(), "", "")
		require.NoError(t, err)
		link := &slowLink{Conn: raw}
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return link, nil }}}
		c, _, err := websocket.Dial(t.Context(), "ws://localhost/graphql", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{graphProtocol}})
		require.NoError(t, err)
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(1 << 20)
		for i, text := range []string{`{"type":"connection_init"}`, `{"type":"subscribe","id":"a","payload":` + queried(seqQuery[:len(seqQuery)-len("{seq type}}")]+"{object}}", "job", id) + `}`} {
			require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(text)))
			if i == 0 {
				_, _, err = c.Read(t.Context())
				require.NoError(t, err)
				time.Sleep(14 * time.Second) // the next ping is near
			}
		}
		link.slow.Store(true)
		for {
			_, b, err := c.Read(t.Context())
			require.NoError(t, err)
			if bytes.Contains(b, []byte(`"complete"`)) {
				return
			}
		}
	})
}

// slowLink is a connection on which 8 KiB come a second, once it is slow.
type slowLink struct {
	net.Conn
	slow atomic.Bool
}

func (l *slowLink) Read(b []byte) (int, error) {
	if l.slow.Load() {
		time.Sleep(100 * time.Millisecond)
		b = b[:min(len(b), 820)]
	}
	return l.Conn.Read(b)
}

// A subscription is held for long, so that it has to be small; what ends at once may be as
// large as any request.
func TestGraphQLLargeSubscription(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		types := make([]string, 10_000)
		for i := range types {
			types[i] = fmt.Sprint("t", i)
		}
		large := queried(eventsQuery, "job", id, "types", types)
		_, r := s.graphql(large, "Accept", "text/event-stream;q=0.1, application/json")
		require.Equal(t, "too-large", r.Errors[0].Extensions.Code)
		p := s.enter()
		p.say(`{"type":"subscribe","id":"a","payload":` + large + `}`)
		require.Contains(t, p.hear(), `"code":"too-large"`)
		p.subscribe("b", eventsQuery, "job", id, "types", types[:1000])
		p.subscribe("c", jobQuery+strings.Repeat(" ", maxSubscription), "job", id)
		require.Contains(t, p.hear(), `"queued"`)
		require.NoError(t, p.CloseNow())
	}, func(a *API) { a.Body = 1 << 20 })
}

package e2e

import (
	"context"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// readSocket reads a WebSocket. Of the codes that it may be closed with one says that the
// job is over; the others, and a connection that breaks, that it is to come back.
func (r *reader) readSocket(ctx context.Context) error {
	address := "ws" + strings.TrimPrefix(r.base, "http") + r.where() + "after=" + r.last()
	c, resp, err := websocket.Dial(ctx, address, &websocket.DialOptions{Subprotocols: []string{"millstream.v1"}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return surprise(resp.Status)
		}
		return err
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	for {
		_, text, err := c.Read(ctx)
		switch code := websocket.CloseStatus(err); {
		case code == websocket.StatusNormalClosure:
			r.over = true
			return nil
		case code == websocket.StatusServiceRestart, code == websocket.StatusTryAgainLater, err != nil && code < 0:
			return err
		case err != nil:
			return surprise(err.Error())
		}
		if err := r.takeJSON(text); err != nil {
			return err
		}
	}
}

package torture

import (
	"context"
	"fmt"

	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// socket reads events over a WebSocket, from the last id on, and calls take with each.
// over: the server said that there is no more. What it says while it cannot serve is no
// surprise: 1012, 1013, or a connection that breaks.
func (c *client) socket(ctx context.Context, path, last string, note func(status int, sent time.Time), take func([]byte) error) (over bool, err error) {
	sent := time.Now()
	conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.line.base(), "http")+path+"?after="+last, &websocket.DialOptions{
		Subprotocols: []string{"millstream.v1"}, HTTPClient: c.http,
	})
	if resp != nil {
		note(resp.StatusCode, sent)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(1 << 20)
	for {
		_, text, err := conn.Read(ctx)
		switch code := websocket.CloseStatus(err); {
		case code == websocket.StatusNormalClosure:
			return true, nil
		case code == websocket.StatusServiceRestart, code == websocket.StatusTryAgainLater, err != nil && code < 0:
			return false, err
		case err != nil:
			return false, unexpected(err.Error())
		}
		if err := take(text); err != nil {
			return false, err
		}
	}
}

// roundOfSocket reads by one socket.
func (r *reader) roundOfSocket() error {
	status := 0
	over, err := r.socket(r.ctx, "/v1/jobs/"+r.job+"/events", r.last, func(code int, sent time.Time) {
		if status = code; code == http.StatusSwitchingProtocols {
			code = http.StatusOK
		}
		r.diary.note(entry{What: opened, Job: r.job, By: "socket", Status: code, Sent: sent, Detail: r.last})
		if code == http.StatusNotFound {
			r.diary.note(entry{What: missing, Job: r.job, By: "socket", Sent: sent})
		}
	}, r.takeJSON)
	r.over = r.over || over
	switch status {
	case 0, http.StatusSwitchingProtocols, http.StatusServiceUnavailable:
		return err
	case http.StatusNotFound:
		r.gone = true
		return nil
	}
	return unexpected(fmt.Sprintf("%d behind %q", status, r.last))
}

// roundOfSocket reads by one socket.
func (o *overseer) roundOfSocket(ctx context.Context) error {
	status := 0
	over, err := o.socket(ctx, "/v1/events", o.last, func(code int, sent time.Time) {
		if status = code; code == http.StatusSwitchingProtocols {
			code = http.StatusOK
		}
		o.diary.note(entry{What: opened, By: "socket", Status: code, Sent: sent, Detail: o.last})
	}, o.takeJSON)
	switch {
	case over:
		return unexpected("there are no more events of all jobs")
	case status == 0, status == http.StatusSwitchingProtocols, status == http.StatusServiceUnavailable:
		return err
	}
	return unexpected(fmt.Sprintf("%d behind %q: %v", status, o.last, err))
}

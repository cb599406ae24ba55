package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// subscription asks for the event as every other transport has it.
const subscription = `subscription($job: ID!, $after: String) { events(job: $job, after: $after) { object } }`

// operation is the subscription to what is behind the last event.
func (r *reader) operation() []byte {
	variables := map[string]string{"job": r.job}
	if r.last != "" {
		variables["after"] = r.last
	}
	text, _ := json.Marshal(map[string]any{"query": subscription, "variables": variables}) // maps and strings
	return text
}

// roundOfGraphStream reads by one subscription over Server-Sent Events.
func (r *reader) roundOfGraphStream() error {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	sent := time.Now()
	resp, err := r.send(ctx, http.MethodPost, "/graphql", r.operation(), "Content-Type", "application/json", "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	r.opened(resp.StatusCode, sent)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return r.response(body)
	}
	name := ""
	return jsonLines(resp.Body, func(line []byte) error {
		field, value, _ := strings.Cut(string(line), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data" && name == "complete":
			r.over = !r.gone
			return errCompleted
		case field == "data":
			return r.response([]byte(value))
		}
		return nil
	})
}

// errCompleted ends a round that was told that there is no more.
var errCompleted = errors.New("complete")

// roundOfGraphSocket reads by one subscription over a WebSocket.
func (r *reader) roundOfGraphSocket() error {
	sent := time.Now()
	c, resp, err := websocket.Dial(r.ctx, "ws"+strings.TrimPrefix(r.line.base(), "http")+"/graphql", &websocket.DialOptions{
		Subprotocols: []string{"graphql-transport-ws"}, HTTPClient: r.http,
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusServiceUnavailable {
			return unexpected(resp.Status)
		}
		return err
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	r.opened(http.StatusOK, sent)
	if err := c.Write(r.ctx, websocket.MessageText, []byte(`{"type":"connection_init"}`)); err != nil {
		return err
	}
	for {
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		_, text, err := c.Read(r.ctx)
		switch code := websocket.CloseStatus(err); {
		case code == websocket.StatusServiceRestart, code == websocket.StatusTryAgainLater, err != nil && code < 0:
			return err
		case err != nil:
			return unexpected(err.Error())
		}
		if err := json.Unmarshal(text, &m); err != nil {
			return unexpected(err.Error())
		}
		switch m.Type {
		case "connection_ack":
			err = c.Write(r.ctx, websocket.MessageText, append(append([]byte(`{"type":"subscribe","id":"a","payload":`), r.operation()...), '}'))
		case "next":
			err = r.response(m.Payload)
		case "error":
			err = r.response([]byte(`{"errors":` + string(m.Payload) + `}`))
		case "complete":
			r.over = !r.gone
			return errCompleted
		case "ping", "pong":
		default:
			return unexpected(string(text))
		}
		if err != nil {
			return err
		}
	}
}

// opened writes down that a subscription is there.
func (r *reader) opened(status int, sent time.Time) {
	r.diary.note(entry{What: opened, Job: r.job, By: "graphql", Status: status, Sent: sent, Detail: r.last})
}

// response takes one of a subscription: an event, or why there is none.
func (r *reader) response(text []byte) error {
	var d struct {
		Data struct {
			Events *struct{ Object json.RawMessage }
		}
		Errors []struct{ Extensions struct{ Status int } }
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return unexpected(fmt.Sprintf("%v: %q", err, text))
	}
	switch {
	case len(d.Errors) > 0 && d.Errors[0].Extensions.Status == http.StatusNotFound:
		r.gone = true
		r.diary.note(entry{What: missing, Job: r.job, By: "graphql"})
		return errCompleted
	case len(d.Errors) > 0 && mayRefuse(d.Errors[0].Extensions.Status):
		return errors.New(string(text))
	case len(d.Errors) > 0 || d.Data.Events == nil:
		return unexpected(string(text))
	}
	return r.takeJSON(d.Data.Events.Object)
}

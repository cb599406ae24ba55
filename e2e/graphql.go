package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// subscription asks for all that an event has.
const subscription = `subscription Watch($job: ID!, $after: String) {
	events(job: $job, after: $after) { id seq type job attempt time data object }
}`

// operation is a subscription to the job's events behind the last one, as every transport
// of GraphQL sends it.
func (r *reader) operation() object {
	variables := object{"job": r.job}
	if last := r.last(); last != "" {
		variables["after"] = last
	}
	return object{"query": subscription, "variables": variables}
}

// readGraphStream reads GraphQL over Server-Sent Events.
func (r *reader) readGraphStream(ctx context.Context) error {
	body, _ := json.Marshal(r.operation()) // maps and strings
	resp, err := send(ctx, r.base, "POST", "/graphql", bytes.NewReader(body), "Content-Type", "application/json", "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return surprise(resp.Status)
	}
	for in := newFrames(resp.Body); ; {
		id, name, data, err := in.response()
		switch {
		case err != nil:
			return err
		case name == "complete":
			r.over = true
			return nil
		}
		if err := r.takeResponse(id, []byte(data)); err != nil {
			return err
		}
	}
}

// response reads a frame of GraphQL over Server-Sent Events.
func (f *frames) response() (id, name, data string, err error) {
	for {
		line, err := f.line()
		field, value, _ := strings.Cut(line, ": ")
		switch {
		case err != nil && name != "":
			return "", "", "", io.ErrUnexpectedEOF // what a client must throw away
		case err != nil:
			return "", "", "", err
		case line == ":", field == "retry" && name == "":
		case field == "id" && id == "" && (name == "" || data != ""): // alone, or behind the data
			id = value
		case field == "event" && name == "" && id == "" && (value == "next" || value == "complete"):
			name = value
		case field == "data" && name != "" && id == "":
			data = value
		case line == "" && name != "":
			return id, name, data, nil
		case line == "" && id != "": // how far the stream is
			id = ""
		default:
			return "", "", "", surprise("line out of place: " + line)
		}
	}
}

// readGraphSocket reads GraphQL over a WebSocket.
func (r *reader) readGraphSocket(ctx context.Context) error {
	c, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(r.base, "http")+"/graphql", &websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return surprise(resp.Status)
		}
		return err
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(1 << 20)
	for _, m := range []object{{"type": "connection_init"}, {"type": "subscribe", "id": "a"}} {
		if m["id"] != nil {
			m["payload"] = r.operation()
			var ack struct{ Type string }
			if err := readMessage(ctx, c, &ack); err != nil || ack.Type != "connection_ack" {
				return orSurprise(err, "acknowledged with "+ack.Type)
			}
		}
		text, _ := json.Marshal(m) // maps and strings
		if err := c.Write(ctx, websocket.MessageText, text); err != nil {
			return err
		}
	}
	for {
		var m struct {
			ID, Type string
			Payload  json.RawMessage
		}
		if err := readMessage(ctx, c, &m); err != nil {
			return err
		}
		switch {
		case m.ID == "a" && m.Type == "complete":
			r.over = true
			return nil
		case m.ID != "a" || m.Type != "next":
			return surprise(fmt.Sprintf("%s of %q: %s", m.Type, m.ID, m.Payload))
		}
		if err := r.takeResponse("", m.Payload); err != nil {
			return err
		}
	}
}

// readMessage reads a message of GraphQL over a WebSocket. Of the codes that it may be closed
// with each one here says that the client is to come back.
func readMessage(ctx context.Context, c *websocket.Conn, m any) error {
	_, text, err := c.Read(ctx)
	switch code := websocket.CloseStatus(err); {
	case code == websocket.StatusServiceRestart, code == websocket.StatusTryAgainLater, err != nil && code < 0:
		return err
	case err != nil:
		return surprise(err.Error())
	}
	if err := json.Unmarshal(text, m); err != nil {
		return surprise(err.Error())
	}
	return nil
}

func orSurprise(err error, what string) error {
	if err == nil {
		return surprise(what)
	}
	return err
}

// takeResponse writes the event of a response down. All that names it must agree, and what
// its fields have with the object that all transports have.
func (r *reader) takeResponse(frame string, text []byte) error {
	var response struct {
		Data struct {
			Events *struct {
				ID, Type, Job, Time string
				Seq                 uint64
				Attempt             int
				Data, Object        json.RawMessage
			}
		}
		Extensions struct{ ID string }
		Errors     json.RawMessage
	}
	if err := json.Unmarshal(text, &response); err != nil || response.Data.Events == nil || response.Errors != nil {
		return surprise(fmt.Sprintf("%v: %s", err, text))
	}
	e := response.Data.Events
	fields := fmt.Sprintf(`{"id":%q,"seq":%d,"type":%q,"job":%q,"attempt":%d,"time":%q,"data":%s}`, e.ID, e.Seq, e.Type, e.Job, e.Attempt, e.Time, e.Data)
	if fields != string(e.Object) || response.Extensions.ID != e.ID || frame != "" && frame != e.ID {
		return surprise(fmt.Sprintf("frame %q says of itself %s", frame, text))
	}
	return r.takeJSON(e.Object)
}

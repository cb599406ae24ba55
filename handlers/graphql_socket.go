package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
)

// graphProtocol is the subprotocol of GraphQL over WebSocket, which graphql-ws has
// written down.
const graphProtocol = "graphql-transport-ws"

// What its sockets are closed with, beside what all are.
const (
	closeBadMessage = websocket.StatusCode(4400)
	closeNotLetIn   = websocket.StatusCode(4401) // an operation before connection_ack
	closeForbidden  = websocket.StatusCode(4403)
	closeProtocol   = websocket.StatusCode(4406)
	closeNoInit     = websocket.StatusCode(4408)
	closeSameID     = websocket.StatusCode(4409)
	closeTwoInits   = websocket.StatusCode(4429)
)

const (
	initTimeout   = 5 * time.Second // for connection_init: as long as for the headers of a request
	maxOperations = 16              // at once on a socket: more than a page shows, and no way around the streams a server has
	maxOperation  = 128             // bytes of an operation's id: a UUID several times over
)

// graphSocket is a client on a WebSocket, with its operations.
type graphSocket struct {
	api  *API
	conn *websocket.Conn
	ctx  context.Context // ends when the client is gone
	who  caller
	in   bool          // it was let in: who is known
	let  chan struct{} // closed when it is

	running sync.WaitGroup // operations
	room    chan struct{}  // has those that run
	streams places
	leave   func() // gives the socket's own place back; nil: it has none yet

	sending atomic.Int32 // messages
	sent    atomic.Int64 // when the last one was: nanoseconds since begun
	begun   time.Time

	turn    turn // to use the fields below, and to send: of an operation nothing is sent once it is none
	active  map[string]*socketOperation
	closing bool // nothing new begins
}

// graphSocket answers with a WebSocket.
func (a *API) graphSocket(c *gin.Context) error {
	if err := a.handshake(c.Request); err != nil {
		return err
	}
	who, in, err := a.upgrader(c)
	if err != nil {
		return err
	}
	a.sockets.Add(1)
	defer a.sockets.Done()
	conn, err := websocket.Accept(c.Writer, c.Request, &websocket.AcceptOptions{
		Subprotocols: []string{graphProtocol}, InsecureSkipVerify: true, // socketOrigin has looked
	})
	if err != nil {
		return errReaderGone // Accept has answered
	}
	defer conn.CloseNow()
	if conn.Subprotocol() != graphProtocol {
		_ = conn.Close(closeProtocol, "the subprotocol is "+graphProtocol)
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Request.Context()))
	defer cancel()
	s := &graphSocket{
		api: a, conn: conn, ctx: ctx, who: who, in: in, begun: time.Now(), let: make(chan struct{}), turn: make(turn, 1),
		room: make(chan struct{}, maxOperations), streams: places{api: a}, active: map[string]*socketOperation{},
	}
	s.serve(cancel)
	return nil
}

// upgrader returns who asks for a socket; in: that is known. Who sends no token may send one
// in connection_init: browsers have no other way.
func (a *API) upgrader(c *gin.Context) (who caller, in bool, err error) {
	_, sent, err := tokenOf(c.Request)
	if err != nil || !sent {
		return caller{}, false, err
	}
	who, err = a.operator(c)
	return who, true, err
}

// serve takes messages until the client is gone.
func (s *graphSocket) serve(cancel context.CancelFunc) {
	defer func() {
		if s.leave != nil {
			s.leave()
		}
	}()
	s.conn.SetReadLimit(s.api.Body)
	var watch sync.WaitGroup
	watch.Go(s.watch)
	for err := error(nil); err == nil; {
		err = s.take()
	}
	cancel()
	s.running.Wait()
	watch.Wait()
}

// take reads a message and does what it says.
func (s *graphSocket) take() error {
	kind, text, err := s.conn.Read(s.ctx)
	if err != nil {
		return err
	}
	m, err := messageIn(text)
	if err != nil || kind != websocket.MessageText {
		return s.close(closeBadMessage, "not a message of "+graphProtocol)
	}
	switch m.kind {
	case "connection_init":
		return s.init(m)
	case "ping":
		return s.send([]byte(`{"type":"pong"}`))
	case "pong":
		return nil
	case "subscribe":
		return s.subscribe(m)
	case "complete":
		s.forget(m.id)
		return nil
	}
	return s.close(closeBadMessage, "there is no such type of message")
}

// message is a message from a client.
type message struct {
	kind, id string
	payload  json.RawMessage
}

// messageIn reads a message.
func messageIn(text []byte) (m message, err error) {
	if err := checkJSON(text); err != nil {
		return m, err
	}
	if text = bytes.TrimLeft(text, space); text[0] != '{' {
		return m, errNoMessage
	}
	for name, raw := range members(text) {
		switch name {
		case "type":
			err = json.Unmarshal(raw, &m.kind)
		case "id":
			err = json.Unmarshal(raw, &m.id)
		case "payload":
			m.payload, err = objectOf(raw)
		}
		if err != nil {
			return m, err
		}
	}
	if !m.whole() {
		return m, errNoMessage
	}
	return m, nil
}

// whole reports whether the message has what its type needs.
func (m *message) whole() bool {
	named := m.id != "" && len(m.id) <= maxOperation
	switch m.kind {
	case "subscribe":
		return named && m.payload != nil
	case "complete":
		return named
	}
	return true
}

var errNoMessage = errors.New("not a message")

// init lets the client in, if its token does.
func (s *graphSocket) init(m message) error {
	select {
	case <-s.let:
		return s.close(closeTwoInits, "there was a connection_init")
	default:
	}
	token, sent, ok := tokenIn(m.payload)
	switch {
	case sent && s.in, !ok:
		return s.close(closeForbidden, "there are two tokens")
	case !s.in:
		var err error
		if s.who, err = s.api.callerWith(token, sent, false); err != nil {
			return s.close(closeForbidden, err.Error())
		}
	}
	if s.leave, ok = s.api.enter(); !ok { // not before: who is not known takes no place of others
		return s.close(closeBusy, "busy")
	}
	close(s.let)
	return s.send([]byte(`{"type":"connection_ack"}`))
}

// tokenIn returns the token of the payload of connection_init: a member named as the header
// or as the parameter is. ok is false if there are two.
func tokenIn(payload json.RawMessage) (token string, sent, ok bool) {
	if payload == nil {
		return "", false, true
	}
	for name, raw := range members(payload) {
		text, is := tokenOfMember(name, raw)
		if is && sent {
			return "", true, false
		}
		if is {
			token, sent = text, true
		}
	}
	return token, sent, true
}

func tokenOfMember(name string, raw json.RawMessage) (token string, is bool) {
	var text string
	switch {
	case json.Unmarshal(raw, &text) != nil:
	case name == "access_token":
		return text, true
	case strings.EqualFold(name, "Authorization"):
		scheme, token, _ := strings.Cut(text, " ")
		return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
	}
	return "", false
}

// watch sees that the client lives and is let in, and closes the socket when its token or
// the server ends.
func (s *graphSocket) watch() {
	beat, late := time.NewTimer(s.api.Heartbeat), time.NewTimer(initTimeout)
	defer beat.Stop()
	defer late.Stop()
	let, expired := s.let, make(<-chan time.Time)
	for {
		select {
		case <-let:
			let = nil
			late.Stop()
			if s.who.limited {
				expired = time.After(time.Until(s.who.claims.Expires))
			}
		case <-beat.C:
			rest := s.rest()
			if rest <= 0 {
				if s.ping() != nil {
					_ = s.conn.CloseNow()
					return
				}
				rest = s.api.Heartbeat
			}
			beat.Reset(rest)
		case <-late.C:
			_ = s.close(closeNoInit, "there was no connection_init in time")
			return
		case <-expired:
			s.goodbye(closeUnauthorized, "unauthorized")
			return
		case <-s.api.down:
			s.goodbye(closeDrain, "drain")
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// rest returns how long the socket has yet to be silent before it is asked whether it lives.
// While a message is on its way a ping would have to wait behind it, and be late; who does not
// take it is found by that.
func (s *graphSocket) rest() time.Duration {
	if s.sending.Load() > 0 {
		return s.api.Heartbeat
	}
	return s.api.Heartbeat - (time.Since(s.begun) - time.Duration(s.sent.Load()))
}

// ping waits for what it brings back, so that a client that is gone is found.
func (s *graphSocket) ping() error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTimeout)
	defer cancel()
	return s.conn.Ping(ctx)
}

// goodbye closes the socket behind its operations, all of which end now or soon.
func (s *graphSocket) goodbye(code websocket.StatusCode, reason string) {
	s.turn.take()
	s.closing = true
	s.turn.give()
	s.running.Wait()
	_ = s.close(code, reason)
}

var errSocketClosed = errors.New("the socket is closed")

// close closes the socket and returns an error, with which its reading ends.
func (s *graphSocket) close(code websocket.StatusCode, reason string) error {
	_ = s.conn.Close(code, reason)
	return errSocketClosed
}

// send sends a message.
func (s *graphSocket) send(text []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, patienceFor(len(text)))
	defer cancel()
	s.sending.Add(1)
	defer s.sending.Add(-1)
	defer func() { s.sent.Store(int64(time.Since(s.begun))) }()
	return s.conn.Write(ctx, websocket.MessageText, text)
}

// Drain has the sockets of GraphQL say goodbye once what they do is done: those of
// subscriptions when the hub ends them, idle ones at once.
func (a *API) Drain() { a.quit.Do(func() { close(a.down) }) }

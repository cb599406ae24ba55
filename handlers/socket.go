package handlers

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// socketType stands for events over a WebSocket (RFC 6455), one a text message, where
// other representations have their media type; subprotocol is the name of that.
const (
	socketType  = "websocket"
	subprotocol = "millstream.v1"
)

// What a socket is closed with.
const (
	closeOver         = websocket.StatusNormalClosure
	closeDrain        = websocket.StatusServiceRestart // come back
	closeBusy         = websocket.StatusTryAgainLater  // come back later; the store does not answer, or too many are here
	closeUnauthorized = websocket.StatusCode(4401)
)

var closeCodes = map[string]websocket.StatusCode{
	"": closeOver, "drain": closeDrain, "busy": closeBusy, "outage": closeBusy, "unauthorized": closeUnauthorized,
}

// wantsSocket reports whether the request asks for a WebSocket.
func wantsSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// socketOrigin fails on a page of another origin: no browser keeps it from opening a
// socket, and none asks beforehand.
func (a *API) socketOrigin(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if origin == "" || a.origins[origin] { // no browser leaves it out
		return nil
	}
	if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return job.Problemf("cross-origin", "A page of another origin sent this; configure its origin if it may.")
}

// socket answers with the events over a WebSocket. What comes to nothing after the
// handshake is told by a last event and the code that the socket is closed with: a page
// sees no status.
func (a *API) socket(c *gin.Context, j *job.Job, r reading, run func(ctx context.Context, s *session) error) error {
	a.sockets.Add(1)
	defer a.sockets.Done()
	conn, err := websocket.Accept(c.Writer, c.Request, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, InsecureSkipVerify: true, // socketOrigin has looked
	})
	if err != nil {
		return errReaderGone // Accept has answered
	}
	defer conn.CloseNow()
	peer := conn.CloseRead(context.WithoutCancel(c.Request.Context())) // it cuts the connection when its context ends
	ctx, cancel := whileValid(peer, c)
	defer cancel()
	s := a.newSession(&socket{peer: peer, conn: conn}, j, r)
	if err := run(ctx, s); err != nil {
		return err
	}
	if err := conn.Close(closeCodes[s.ended], s.ended); err != nil {
		return fmt.Errorf("%w: %w", errReaderGone, err) // it was told, and says no goodbye
	}
	return nil
}

// socket is the outlet of a session that is a WebSocket: each line that is written is a
// message, an empty one a ping. As it waits for what the ping brings back, a peer that is
// gone is found.
type socket struct {
	peer context.Context // ends when it has gone
	conn *websocket.Conn
	last time.Time
}

// Write sends each line of b, all of which end.
func (w *socket) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if err := w.send(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return 0, fmt.Errorf("%w: %w", errReaderGone, err)
		}
	}
	return len(b), nil
}

func (w *socket) send(line []byte) error {
	w.last = time.Now()
	ctx, cancel := context.WithTimeout(w.peer, patienceFor(len(line)))
	defer cancel()
	if len(line) == 0 {
		return w.conn.Ping(ctx)
	}
	return w.conn.Write(ctx, websocket.MessageText, line)
}

// patienceFor returns how long a message of n bytes may take.
func patienceFor(n int) time.Duration { return writeTimeout + time.Duration(n/piece)*writeTimeout }

// Flush does nothing: a message has been sent.
func (w *socket) Flush() error { return nil }

func (w *socket) idleSince() time.Time { return w.last }

// errNoSocket is the error of a request for a socket that is no handshake.
var errNoSocket = job.Problemf("invalid-request", "A WebSocket begins with a GET of HTTP/1.1 that has Connection, Upgrade, Sec-WebSocket-Version: 13 and Sec-WebSocket-Key.")

// handshake fails on what cannot become a socket, before a job is looked up for it.
func (a *API) handshake(r *http.Request) error {
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || r.Header.Get("Sec-WebSocket-Key") == "" || r.Header.Get("Sec-WebSocket-Version") != "13" {
		return errNoSocket
	}
	return a.socketOrigin(r)
}

// Wait returns when all sockets are closed, or ctx ends: a server's Shutdown knows nothing
// of them.
func (a *API) Wait(ctx context.Context) {
	closed := make(chan struct{})
	go func() { a.sockets.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

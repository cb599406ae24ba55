package handlers

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/millstream/millstream/pkg/job"
)

// peer is the other end of a socket.
type peer struct {
	*websocket.Conn
	t     *testing.T
	pings int
}

// dial opens a socket on the events of a job; the answer is that of a refusal.
func (s *service) dial(path string, headers ...string) (*peer, *http.Response, error) {
	s.t.Helper()
	p := &peer{t: s.t}
	o := &websocket.DialOptions{HTTPClient: s.client, HTTPHeader: http.Header{}, Subprotocols: []string{subprotocol}, OnPingReceived: func(context.Context, []byte) bool {
		p.pings++
		return true
	}}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			o.Host = headers[i+1]
		}
		if headers[i] == "Sec-WebSocket-Protocol" {
			o.Subprotocols = []string{headers[i+1]}
		}
		o.HTTPHeader.Set(headers[i], headers[i+1])
	}
	c, resp, err := websocket.Dial(s.t.Context(), "ws://localhost"+path, o)
	if err == nil {
		s.t.Cleanup(func() { _ = c.CloseNow() })
		c.SetReadLimit(1 << 20)
		p.Conn = c
	}
	return p, resp, err
}

func (s *service) socket(path string, headers ...string) *peer {
	s.t.Helper()
	p, _, err := s.dial(path, headers...)
	require.NoError(s.t, err)
	require.Equal(s.t, subprotocol, p.Subprotocol())
	return p
}

// next returns the next event as it came.
func (p *peer) next() (text string, e job.Event) {
	p.t.Helper()
	kind, b, err := p.Read(p.t.Context())
	require.NoError(p.t, err)
	require.Equal(p.t, websocket.MessageText, kind)
	require.NoError(p.t, json.Unmarshal(b, &e))
	return string(b), e
}

// closed reads to the end, of which nothing but the code is left.
func (p *peer) closed(code websocket.StatusCode) {
	p.t.Helper()
	_, b, err := p.Read(p.t.Context())
	require.Equal(p.t, code, websocket.CloseStatus(err), "%v %s", err, b)
}

// Each event is a message, the same object as on every other transport, and its id goes on
// behind it.
func TestSocket(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		for n := range 5 {
			s.progress(id, n)
		}
		s.succeed(id, `{"a" : 1}`)
		lines := strings.Split(strings.TrimSpace(s.get(pathOf(id, "/events"), "Accept", ndjsonType).body), "\n")
		path, whole := pathOf(id, "/events"), s.socket(pathOf(id, "/events"))
		for _, want := range lines {
			text, _ := whole.next()
			require.Equal(t, want, text)
		}
		whole.closed(websocket.StatusNormalClosure)

		after := "" // and a connection for each
		for _, want := range lines {
			p := s.socket(path + "?after=" + after)
			text, e := p.next()
			require.Equal(t, want, text)
			after = e.Cursor().String()
			require.NoError(t, p.Close(websocket.StatusNormalClosure, ""))
		}
		s.socket(path, "Last-Event-ID", after).closed(websocket.StatusNormalClosure)
		p := s.socket(path + "?after=" + after + "&types=job.running") // filtered, and with nothing left
		p.closed(websocket.StatusNormalClosure)
		p = s.socket(path + "?types=job.running")
		_, e := p.next()
		require.Equal(t, job.Running, e.Type)
		_, e = p.next()
		require.Equal(t, job.Succeeded, e.Type)
		p.closed(websocket.StatusNormalClosure)
		p = s.socket(path + "?after=garbage")
		_, e = p.next()
		require.Equal(t, job.StreamReset, e.Type)
		text, _ := p.next()
		require.Equal(t, lines[0], text)
		require.NoError(t, p.CloseNow())
	}, func(a *API) { a.Streams = 1000 }) // a peer that has closed may not have given its place back
}

// Events come when they happen; silence has a ping in it, whose answer is waited for.
func TestSocketLives(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		p := s.socket(pathOf(id, "/events"))
		_, e := p.next()
		require.Equal(t, job.Queued, e.Type)
		begin := time.Now()
		time.AfterFunc(50*time.Second, func() { s.begin(id) })
		_, e = p.next()
		require.Equal(t, job.Running, e.Type)
		require.Equal(t, 50*time.Second, time.Since(begin))
		require.Equal(t, 3, p.pings)
		s.succeed(id, "1")
		p.next()
		p.closed(websocket.StatusNormalClosure)
	})
}

// A peer that does not read, or does not answer a ping, is let go, and holds up nobody.
func TestSocketOfNobody(t *testing.T) {
	for name, quiet := range map[string]bool{"silent": true, "stuck": false} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				p := s.socket(pathOf(id, "/events"))
				p.next()
				if !quiet {
					s.add(id, job.Record{Type: job.Running, Data: []byte(`{}`)}, job.Record{Type: "x", Data: []byte(`"` + strings.Repeat("x", 3000) + `"`)})
				}
				time.Sleep(15*time.Second + writeTimeout + time.Second)
				require.Zero(t, s.readers())
				require.Zero(t, s.api.open.Load())
			})
		})
	}
}

// A peer that does not say goodbye is gone, which is no error of ours.
func TestSocketOfARudePeer(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		c, err := s.wire.dial(t.Context(), "", "")
		require.NoError(t, err)
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_, err = c.Write([]byte("GET " + pathOf(id, "/events") + " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"))
		require.NoError(t, err)
		s.succeed(id, "1")
		time.Sleep(time.Minute)
		require.Len(t, s.logs.FilterMessage("request").FilterField(zap.Int("status", 101)).All(), 1)
		require.Empty(t, s.logs.FilterLevelExact(zapcore.ErrorLevel).All())
	})
}

// Why a socket ends is the last event and the code.
func TestSocketEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		code   websocket.StatusCode
		reason string
		end    func(s *service, id job.ID)
	}{
		"drain":     {closeDrain, "drain", func(s *service, _ job.ID) { close(s.quit) }},
		"token end": {closeUnauthorized, "unauthorized", func(*service, job.ID) {}},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := s.submit()
				p := s.socket(pathOf(id, "/events?access_token="+s.signer.Mint(id, anonymous, time.Now().Add(20*time.Second))))
				p.next()
				tc.end(s, id)
				text, e := p.next()
				require.Equal(t, job.StreamEnd, e.Type)
				require.Contains(t, text, `"data":{"reason":"`+tc.reason+`"}`)
				require.Contains(t, text, `"id":"1-100-1"`)
				p.closed(tc.code)
			})
		})
	}
}

// What passes is told by the code, everything else by the status before the handshake.
func TestSocketRefused(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		path := pathOf(id, "/events")
		for range 3 {
			defer s.stream(path).quit()
		}
		p := s.socket(path + "?after=1-100-1")
		_, e := p.next()
		require.Equal(t, job.StreamEnd, e.Type)
		require.Equal(t, "1-100-1", e.Cursor().String())
		p.closed(closeBusy)
	})
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		path := pathOf(id, "/events")
		s.fail("Open", job.Problemf("storage-unavailable", ""))
		p := s.socket(path)
		p.next()
		p.closed(closeBusy)
		s.fail("Open", nil)
		for name, tc := range map[string]struct {
			path    string
			headers []string
			status  int
		}{
			"unknown":          {pathOf(job.NewID(), "/events"), nil, 404},
			"foreign origin":   {path, []string{"Origin", "https://evil.example"}, 403},
			"null origin":      {path, []string{"Origin", "null"}, 403},
			"unknown job, too": {pathOf(job.NewID(), "/events"), []string{"Origin", "https://evil.example"}, 403},
			"token":            {path + "?access_token=x", nil, 401},
			"wrong host":       {path, []string{"Host", "evil.example"}, 421},
			"no events":        {pathOf(id, ""), nil, 200},
		} {
			_, resp, err := s.dial(tc.path, tc.headers...)
			require.Error(t, err, name)
			require.Equal(t, tc.status, resp.StatusCode, name)
		}
		for _, origin := range []string{"http://localhost", "https://app.example"} {
			require.NoError(t, s.socket(path, "Origin", origin).CloseNow())
		}
	}, func(a *API) { a.Origins = []string{"https://app.example"} })
}

func TestSocketHandshake(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		path := pathOf(s.submit(), "/events")
		good := []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
		for i := 4; i < len(good); i += 2 {
			headers := append([]string(nil), good...)
			headers[i+1] = ""
			s.problem(s.get(path, headers...), 400, "invalid-request")
		}
		require.Equal(t, 400, s.do("HEAD", path, "", good...).StatusCode)
		s.problem(s.get(path+"?format=xml"), 400, "invalid-request")
	})
}

// Who sends something has mistaken us for another.
func TestSocketIsReadOnly(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		p := s.socket(pathOf(s.submit(), "/events"))
		p.next()
		require.NoError(t, p.Write(t.Context(), websocket.MessageText, []byte("hello")))
		p.closed(websocket.StatusPolicyViolation)
		time.Sleep(time.Minute) // closing has its own patience
		require.Zero(t, s.readers())
	})
}

// A server that stops waits for its sockets, and no longer than it is told to.
func TestWait(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		p := s.socket(pathOf(s.submit(), "/events"))
		p.next()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.api.Wait(ctx)
		require.Equal(t, time.Second, time.Since(begin))
		go func() {
			p.next()
			p.closed(closeDrain)
		}()
		close(s.quit)
		s.api.Wait(t.Context())
	})
}

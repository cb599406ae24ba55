package webhook

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// piped returns a Sender whose connections lead to receive, which has read the head of the
// request before.
func piped(t *testing.T, receive func(c net.Conn)) *Sender {
	w := newWorld(t)
	s := New(w, Options{Keys: w.keys, Log: zap.NewNop()})
	via := transport(s.guard.public)
	via.DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			r := bufio.NewReader(theirs)
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			gone := make(chan struct{})
			go func() { _, _ = io.Copy(io.Discard, r); close(gone) }()
			receive(theirs)
			<-gone
		}()
		return ours, nil
	}
	t.Cleanup(via.CloseIdleConnections)
	s.secure = via
	return s
}

// say returns a receiver that says all of it, and then nothing any more.
func say(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
	}
}

// drip returns a receiver that says a first text, and another one for ever, now and then.
func drip(first, then string, every time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		_, err := io.WriteString(c, first)
		for err == nil {
			time.Sleep(every)
			_, err = io.WriteString(c, then)
		}
	}
}

// Whatever a receiver does with its connection, a try is over in its time.
func TestEveryTryEnds(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for name, tc := range map[string]struct {
		receive  func(net.Conn)
		received bool
		reason   string // or a part of it
	}{
		"says nothing":               {say(""), false, "no answer within 15s"},
		"hangs up":                   {func(c net.Conn) { _ = c.Close() }, false, "closed the connection before it answered"},
		"says half a head":           {say(head), false, "no answer within 15s"},
		"drips its head":             {drip(head, "A: b\r\n", time.Second), false, "no answer within 15s"},
		"says what is no HTTP":       {say("220 mail.example ESMTP\r\n"), false, "malformed HTTP"},
		"says what is no status":     {say("HTTP/1.1 2000 OK\r\n\r\n"), false, "malformed HTTP"},
		"has a huge head":            {drip(head, "A: "+strings.Repeat("b", 1<<20)+"\r\n", 0), false, "exceeded"},
		"has a huge body":            {drip(head+"Content-Length: 9999999999\r\n\r\n", strings.Repeat("b", 1<<16), 0), true, ""},
		"drips its body":             {drip(head+"Content-Length: 9999999999\r\n\r\n", "b", time.Second), true, ""},
		"has a body that never ends": {say(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello"), true, ""},
		"has a body that is broken":  {say(head + "Transfer-Encoding: chunked\r\n\r\nx"), true, ""},
		"continues for ever":         {drip("", "HTTP/1.1 100 Continue\r\n\r\n", time.Second), false, "no answer within 15s"},
		"hints for ever":             {drip("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", time.Millisecond), false, "exceeded"},
		"takes the connection":       {say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), false, "101 Switching Protocols"},
		"drips on a taken one":       {drip("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "b", time.Second), false, "101 Switching Protocols"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, begin := piped(t, tc.receive), time.Now()
			a := s.post(t.Context(), deliveryTo("https://a.example/"))
			require.LessOrEqual(t, time.Since(begin), tryTime, name)
			require.Equal(t, tc.received, a.received(), name)
			require.Contains(t, a.reason(), tc.reason, name)
			require.LessOrEqual(t, len(a.reason()), maxReason, name)
			pass(time.Minute) // until the receiver has gone too
		})
	}
}

// Why a connection broke is told without the address that it was made from.
func TestReasonHasNoAddressOfOurs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	from := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		from <- c.RemoteAddr().String()
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_ = c.(*net.TCPConn).SetLinger(0) // resets it
		_ = c.Close()
	}()
	a := posting(t, "127.0.0.0/8").post(t.Context(), deliveryTo("http://"+ln.Addr().String()+"/"))
	require.Contains(t, a.reason(), "tcp "+ln.Addr().String()+": ")
	require.NotContains(t, a.reason(), <-from)
}

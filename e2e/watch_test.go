package e2e

import (
	"context"
	"encoding/json"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// watched is a job that is watched by a page with client.js, on some line to the server.
type watched struct {
	*server
	t    *testing.T
	page context.Context
	job  jobState
	up   *upstream
	call *call
}

func watchIt(t *testing.T, options object, line func(s *server) string) *watched {
	t.Helper()
	up := newUpstream(t)
	site := serveFiles(t, "testdata")
	s := start(t, object{
		"cors":  object{"origins": []string{site.URL}},
		"kinds": object{"tokens": object{"http": object{"url": up.URL}}},
	})
	w := &watched{server: s, t: t, up: up, job: s.submit("tokens", object{})}
	w.call = up.next()
	w.call.answer(200, "text/event-stream")
	text, err := json.Marshal(options)
	require.NoError(t, err)
	q := url.Values{"base": {s.base}, "line": {line(s)}, "events": {w.job.Links["events"]}, "options": {string(text)}}
	w.page = openPage(t, site.URL+"/watch.html?"+q.Encode())
	return w
}

func (w *watched) say(from, to int) {
	w.t.Helper()
	for n := from; n < to; n++ {
		w.call.say("event: token\ndata: {\"n\":%d}\n\n", n)
	}
}

// over ends the job, and holds what the page saw to what there was: each event once, in order.
func (w *watched) over() {
	w.t.Helper()
	w.call.end()
	eventually(w.t, "the page sees the end", func() bool { return evaluate[bool](w.t, w.page, `window.ended === "over"`) })
	want := w.events(w.job.ID, "").rest()
	seen := evaluate[[]json.RawMessage](w.t, w.page, "seen")
	require.Len(w.t, seen, len(want))
	for i, e := range want {
		require.JSONEq(w.t, e.raw, string(seen[i]))
	}
}

func (w *watched) seen(n int) {
	w.t.Helper()
	eventually(w.t, "the page sees them", func() bool { return evaluate[int](w.t, w.page, "window.seen?.length ?? 0") >= n })
}

// A page on a good line listens, on one that is cut as well, and with names of events that
// nobody told it.
func TestWatch(t *testing.T) {
	t.Parallel()
	for name, cuts := range map[string][]int{"sound": nil, "cut": {1500, 3333, 800}} {
		t.Run(name, func(t *testing.T) {
			var p *proxy
			w := watchIt(t, nil, func(s *server) string {
				p = newProxy(t, s.address(), cuts...)
				p.hurry = true
				return p.URL()
			})
			said := 40
			w.say(0, said)
			eventually(t, "every cut is made, and the page listens again", func() bool { // slow as it may be to come back, the job is not over before
				w.say(said, said+1)
				said++
				return len(p.streams()) > len(cuts) && p.live.Load() == 1
			})
			w.over()
			require.Empty(t, evaluate[[]string](t, w.page, "transports"), "it is the stream")
			require.Len(t, p.streams(), len(cuts)+1, "and does not come back behind the end")

			// A job that is over has no more to say than how it stands; a path is the server's, and not the page's.
			evaluate[any](t, w.page, `import("`+w.base+`/client.js").then(async ({ watch }) => {
				const types = []
				for await (const event of watch("`+w.job.Links["events"]+`", { after: "latest" })) types.push(event.type + " " + event.data.job.status)
				window.late = types.join()
			})`)
			pollPage(t, w.page, `window.late === "stream.reset succeeded"`)
		})
	}
}

// Behind what holds a stream back the page polls, from where it was.
func TestWatchBehindAMutingProxy(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string]bool{"all of it": false, "all but the headers": true} {
		t.Run(name, func(t *testing.T) {
			w := watchIt(t, object{"firstFrame": 500}, func(s *server) string { return newMute(t, s.address(), headers) })
			w.say(0, 5)
			w.seen(7)
			eventually(t, "the page polls", func() bool { return evaluate[bool](t, w.page, `transports.join() === "polling"`) })
			w.say(5, 10)
			w.seen(12)
			w.over()
		})
	}
}

// A server that is away when a page begins is none that something holds back: the page listens as soon
// as it is there.
func TestWatchBeginsBeforeTheServer(t *testing.T) {
	t.Parallel()
	for try := 1; ; try++ {
		transports := watchBeforeTheServer(t)
		if len(transports) == 0 {
			return
		}
		require.Less(t, try, 3, "it has fallen to %v each time: not for a machine that was busy for 0.8 s", transports)
	}
}

// watchBeforeTheServer returns what the page that was there before the server fell to.
func watchBeforeTheServer(t *testing.T) []string {
	t.Helper()
	var p *proxy
	w := watchIt(t, object{"firstFrame": 300}, func(s *server) string { // it asks for a page again, and is answered, before the browser tries again after 3 s
		p = newProxy(t, s.address())
		p.away.Store(true)
		return p.URL()
	})
	eventually(t, "the page has asked for the stream, and for a page", func() bool { return p.refused.Load() >= 3 })
	p.away.Store(false)
	w.say(0, 5)
	w.seen(7)
	eventually(t, "the page listens, or has given that up", func() bool {
		return p.live.Load() == 1 || len(evaluate[[]string](t, w.page, "transports")) > 0
	})
	w.over()
	return evaluate[[]string](t, w.page, "transports")
}

// A page that has slept does not trust its stream: it asks for what came meanwhile, and
// listens again.
func TestWatchAfterSleep(t *testing.T) {
	t.Parallel()
	var m *hole
	w := watchIt(t, object{"asleep": 500, "firstFrame": 60_000}, func(s *server) string {
		m = newHole(t, s.address())
		return m.url
	})
	w.say(0, 5)
	w.seen(7)
	m.fall() // the connection is there, and nothing comes
	w.say(5, 10)
	evaluate[any](t, w.page, `(() => { const until = Date.now() + 1500; while (Date.now() < until); window.dispatchEvent(new Event("pageshow")) })()`)
	w.seen(12)
	w.over()
	require.Empty(t, evaluate[[]string](t, w.page, "transports"), "it listens again")
}

// What will not pass is an error, with the server's words.
func TestWatchRefused(t *testing.T) {
	t.Parallel()
	w := watchIt(t, object{"token": "not a token"}, func(s *server) string { return s.base })
	pollPage(t, w.page, `window.ended?.includes("unauthenticated") ?? false`)
	w.call.end()
}

// newMute returns the address of a proxy that keeps the bytes of a stream to itself, or
// those behind its headers.
func newMute(t *testing.T, target string, headers bool) string {
	return filtered(t, target, func(request string, down func([]byte)) func([]byte) {
		if !strings.Contains(request, "text/event-stream") {
			return down
		}
		through := headers
		return func(b []byte) {
			if through {
				end := strings.Index(string(b), "\r\n\r\n")
				down(b[:end+4])
				through = false
			}
		}
	})
}

// hole is a proxy whose streams fall silent at once.
type hole struct {
	url    string
	silent atomic.Int64 // of the connections so far
	n      atomic.Int64
}

func newHole(t *testing.T, target string) *hole {
	h := new(hole)
	h.url = filtered(t, target, func(request string, down func([]byte)) func([]byte) {
		if !strings.Contains(request, "text/event-stream") {
			return down
		}
		n := h.n.Add(1)
		return func(b []byte) {
			if n > h.silent.Load() {
				down(b)
			}
		}
	})
	return h
}

func (h *hole) fall() { h.silent.Store(h.n.Load()) }

// filtered is a proxy that lets through what a filter made for each request does.
func filtered(t *testing.T, target string, filter func(request string, down func([]byte)) func([]byte)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go pump(client, target, filter)
		}
	}()
	return "http://" + l.Addr().String()
}

func pump(client net.Conn, target string, filter func(request string, down func([]byte)) func([]byte)) {
	defer func() { _ = client.Close() }()
	server, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var pass atomic.Pointer[func([]byte)]
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := client.Read(b)
			if err != nil {
				_ = server.Close()
				return
			}
			f := filter(string(b[:n]), func(b []byte) { _, _ = client.Write(b) })
			pass.Store(&f)
			if _, err := server.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		(*pass.Load())(b[:n])
	}
}

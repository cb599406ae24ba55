package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// The tests of this file are those behaviours that web-platform-tests (eventsource/) hold a
// browser to, the other way round: Chromium's own EventSource must see the same of Millstream's
// streams. The names in brackets are theirs.

// listening is a page that has an EventSource on each address it was told to listen to.
type listening struct {
	*server
	t    *testing.T
	line *proxy
	up   *upstream
	page context.Context
}

// heard is what an EventSource of the page has seen.
type heard struct {
	Opens, Errors int
	State         int // readyState
	Messages      []struct{ ID, Type, Data string }
}

func listen(t *testing.T, config object, cuts ...int) *listening {
	t.Helper()
	site := serveFiles(t, "testdata")
	up := newUpstream(t)
	config["cors"] = object{"origins": []string{site.URL}}
	config["kinds"] = object{
		"tokens": object{"http": object{"url": up.URL}},
		"say":    object{"exec": object{"command": []string{"cat"}, "stdout": "events"}},
	}
	s := start(t, config)
	line := newProxy(t, s.address(), cuts...)
	line.hurry = true
	return &listening{server: s, t: t, line: line, up: up, page: openPage(t, site.URL+"/listen.html")}
}

// to has the page listen, and returns what it has heard whenever it is asked.
func (l *listening) to(address string) func() heard {
	l.t.Helper()
	name, err := json.Marshal(l.line.URL() + address)
	require.NoError(l.t, err)
	n := evaluate[int](l.t, l.page, "listen("+string(name)+")")
	return func() heard {
		return evaluate[[]heard](l.t, l.page, "heard()")[n]
	}
}

// closed waits until the EventSource has given up.
func (l *listening) closed(h func() heard) heard {
	l.t.Helper()
	eventually(l.t, "the EventSource gives up", func() bool { return h().State == 2 })
	return h()
}

// Whatever an event has in it, the page has it, and nothing else is an event. [format-bom,
// format-comments, format-data-before-final-empty-line, format-field-*, format-leading-space,
// format-mime-*, format-newlines, format-null-character, format-utf-8]
func TestPlatformFormat(t *testing.T) {
	t.Parallel()
	l := listen(t, object{"heartbeat": "1s"})
	texts := map[string]string{
		"bom":            "\ufeffid: 9\n\ufeff",
		"comments":       ":\n: x\n\n:",
		"field data":     "data: x\n\ndata:\ndata",
		"field event":    "event: job.failed\n\n",
		"field id":       "id: 9\nid\n\n",
		"field id null":  "id: \x009",
		"field parsing":  "data:\x00\ndata:  2\rData:1\ndata\x00:2\n\nda-ta: 3\n",
		"field retry":    "retry: 86400000\nretry\n",
		"leading space":  "  two, and one behind ",
		"newlines":       "a\nb\rc\r\nd\r\r\n\n",
		"null character": "\x00",
		"utf-8":          "ok… é \u2028 𝄞 \U0010ffff",
		"nothing":        "",
	}
	var input strings.Builder
	for name, text := range texts {
		line, err := json.Marshal(object{"type": "text", "data": object{"name": name, "text": text}})
		require.NoError(t, err)
		input.Write(append(line, '\n'))
	}
	j := l.submitRaw("say", "application/x-ndjson", []byte(input.String()))
	l.until(j.ID, "succeeded")
	got := l.closed(l.to(j.Links["events"]))
	want := l.events(j.ID, "").rest()
	require.Len(t, got.Messages, len(want))
	for i, e := range want {
		require.Equal(t, seenEvent{e.ID, e.Type, e.raw}, seenEvent(got.Messages[i]))
		if e.Type != "text" {
			continue
		}
		name := e.field("name").(string)
		require.Equal(t, texts[name], e.field("text"), name)
		delete(texts, name)
	}
	require.Empty(t, texts)
	resp, err := send(t.Context(), l.base, "GET", j.Links["events"], nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"), "a charset of another name would end it")

	// Heartbeats are none, and nor is what was cut in the middle.
	live := l.submit("tokens", nil)
	call := l.up.next()
	call.answer(http.StatusOK, "text/event-stream")
	sayTokens(call, 1)
	l.line.cut(1400)
	h := l.to(live.Links["events"])
	eventually(t, "it hears", func() bool { return len(h().Messages) == 3 })
	time.Sleep(2500 * time.Millisecond) // two heartbeats
	require.Len(t, h().Messages, 3)
	sayTokens(call, 20)
	eventually(t, "it hears the rest", func() bool { return len(h().Messages) == 23 })
	require.True(t, l.line.whole(), "it was cut")
	call.end()
	want = l.events(live.ID, "").rest()
	got = l.closed(h)
	require.Len(t, got.Messages, len(want))
	for i, e := range want {
		require.Equal(t, seenEvent{e.ID, e.Type, e.raw}, seenEvent(got.Messages[i]))
	}
}

// A page of another origin comes back with the id of the last event that it saw, in a header, and the
// browser asks for no leave: no id is too long for that, or has bytes that would need it. Leave is there
// for those who send the header themselves. [eventsource-constructor-*, last-event-id,
// cors-unsafe-last-event-id]
func TestPlatformLastEventID(t *testing.T) {
	t.Parallel()
	l := listen(t, object{}, 1500, 1300, 1700)
	j := l.submit("tokens", nil)
	call := l.up.next()
	call.answer(http.StatusOK, "text/event-stream")
	sayTokens(call, 40)
	call.end()
	got := l.closed(l.to(j.Links["events"]))
	require.Len(t, got.Messages, 43)
	asked := l.line.streams()
	require.Len(t, asked, 5, "the first, one behind each cut, and the one behind the end")
	require.NotContains(t, asked[0].Header, "Last-Event-Id", "not even an empty one")
	ids := map[string]bool{}
	for _, m := range got.Messages {
		ids[m.ID] = true
		require.Regexp(t, `^[0-9-]{5,64}$`, m.ID)
	}
	for _, r := range asked[1:] {
		if named, is := r.Header["Last-Event-Id"]; is { // a browser that is slow may have lost all that came before the cut
			require.True(t, ids[named[0]], named)
		}
		require.NotEmpty(t, r.Header.Get("Origin"))
	}
	require.Equal(t, got.Messages[42].ID, asked[4].Header.Get("Last-Event-ID"))
	require.Zero(t, l.line.options.Load(), "a preflight")

	code := `fetch("` + l.line.URL() + j.Links["events"] + `", { headers: { "Last-Event-ID": "` + got.Messages[40].ID + `", Accept: "text/event-stream" } })
		.then((answer) => answer.text()).then((text) => { window.fetched = text })`
	evaluate[any](t, l.page, code)
	pollPage(t, l.page, `window.fetched?.includes("job.succeeded") ?? false`)
	require.Equal(t, 2, strings.Count(evaluate[string](t, l.page, "fetched"), "\nevent: "))
	require.EqualValues(t, 1, l.line.options.Load())
}

// A status that ends an EventSource does so at once, with one error, no message and no other question.
// It is one that will not pass. [request-status-error, status-error]
func TestPlatformStatus(t *testing.T) {
	t.Parallel()
	l := listen(t, object{})
	j := l.submitRaw("say", "application/x-ndjson", []byte(`{"type":"text","data":1}`))
	end := l.until(j.ID, "succeeded").Cursor
	unknown := strings.Replace(j.Links["events"], j.ID, j.ID[:len(j.ID)-4]+"0000", 1)
	addresses := map[int]string{
		http.StatusNoContent:    j.Links["events"] + "?after=" + end,
		http.StatusBadRequest:   j.Links["events"] + "?names=some",
		http.StatusUnauthorized: j.Links["events"] + "?access_token=none",
		http.StatusNotFound:     unknown,
	}
	hears := map[int]func() heard{}
	for status, address := range addresses {
		require.Equal(t, status, l.ask("GET", address, nil).Status)
		hears[status] = l.to(address)
	}
	for status, h := range hears {
		got := l.closed(h)
		require.Empty(t, got.Messages, status)
		require.Equal(t, []int{0, 1}, []int{got.Opens, got.Errors}, status)
	}
	time.Sleep(500 * time.Millisecond) // ten times what the line has them wait
	require.Len(t, l.line.streams(), len(addresses))
}

// What ends well, is cut, or is not there at all is asked for again, for as long as it takes, and what says 204 then no
// more. [reconnect, reconnect-fail, status-reconnect, request-post-to-connect]
func TestPlatformReconnect(t *testing.T) {
	t.Parallel()
	l := listen(t, object{"drain": "8s", "limits": object{"streams": 1}})
	j := l.submit("tokens", nil)
	call := l.up.next()
	call.answer(http.StatusOK, "text/event-stream")
	holder := l.events(j.ID, "")

	h := l.to(j.Links["events"])
	eventually(t, "it is told that the server is full", func() bool { return len(h().Messages) >= 3 })
	for _, m := range h().Messages {
		require.Equal(t, "stream.end", m.Type)
		require.Contains(t, m.Data, `"busy"`)
	}
	got := h()
	require.NotEqual(t, 2, got.State)
	require.GreaterOrEqual(t, got.Opens, 3)
	holder.close()
	eventually(t, "it is let in", func() bool { return last(h()).Type == "job.running" })

	require.Zero(t, l.signal(syscall.SIGTERM))
	eventually(t, "it is told that the server stops", func() bool { return last(h()).Type == "stream.end" })
	require.Contains(t, last(h()).Data, `"drain"`)
	failed := h().Errors
	eventually(t, "it asks a server that is not there", func() bool { return h().Errors > failed+3 })
	require.Equal(t, 0, h().State)
	l.boot()
	got = l.closed(h) // the job may have run, so it has failed, and that is read
	require.Equal(t, "job.failed", last(got).Type)
	var log []string
	for _, m := range got.Messages {
		if m.Type != "stream.end" {
			log = append(log, m.Type)
		}
	}
	require.Equal(t, []string{"job.queued", "job.running", "job.failed"}, log)
}

func last(h heard) (m struct{ ID, Type, Data string }) {
	if len(h.Messages) > 0 {
		m = h.Messages[len(h.Messages)-1]
	}
	return m
}

// A page that is left and gone back to goes on where it was: client.js lets go of its stream, so the
// browser keeps the page as it was, and it catches up when it is shown again. [eventsource-bfcache]
func TestPlatformBackForward(t *testing.T) {
	t.Parallel()
	var p *proxy
	w := watchIt(t, nil, func(s *server) string {
		p = newProxy(t, s.address())
		return p.URL()
	})
	w.say(0, 5)
	w.seen(7)
	evaluate[any](t, w.page, `window.mark = 7`)
	require.NoError(t, chromedp.Do(w.page, chromedp.Navigate(w.base+"/livez")))
	eventually(t, "its stream is closed", func() bool { return p.live.Load() == 0 })
	w.say(5, 10)
	_, err := chromedp.Call(w.page, page.NavigateToHistoryEntry, page.NavigateToHistoryEntryParams{EntryID: entryBack(t, w.page)})
	require.NoError(t, err)
	w.seen(12)
	require.True(t, evaluate[bool](t, w.page, "window.mark === 7"), "the page was loaded anew")
	w.over()
}

// entryBack returns the history entry before the page's.
func entryBack(t *testing.T, tab context.Context) int64 {
	t.Helper()
	h, err := chromedp.Call(tab, page.GetNavigationHistory, cdp.Empty{})
	require.NoError(t, err)
	return h.Entries[h.CurrentIndex-1].ID
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// npmClient is a client of docs/clients.md, which reads a job on a line of its own.
type npmClient struct {
	name  string
	slow  bool // it waits for a second before it comes back
	asks  int  // for what comes behind the end
	line  *proxy
	seen  func() []shownEvent
	every func() []uint64 // the seq of each event that it was sent, known or not
}

// shownEvent is what a page shows of an event.
type shownEvent struct {
	Seq  uint64
	Type string
}

// Each client reads a job of some hundred events: first the server has no place for it, then its
// line is cut every few events, and in the middle the server stops and starts again. Each is sent each
// event once, in order.
func TestClients(t *testing.T) {
	t.Parallel()
	const places, tokens = 12, 150 // tokens: of each of two attempts
	up := newUpstream(t)
	site := newClientSite(t)
	s := start(t, object{
		"cors":   object{"origins": []string{site.URL}},
		"drain":  "8s",
		"limits": object{"streams": places},
		"kinds":  object{"tokens": object{"http": object{"url": up.URL, "idempotent": true}}},
	})
	j := s.submit("tokens", nil)
	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	var full []*stream
	for range places {
		full = append(full, s.events(j.ID, ""))
	}
	clients := []*npmClient{
		{name: "client.js"},
		{name: "EventSource of the browser", asks: 1},
		{name: "fetch-event-source"},
		{name: "event-source-polyfill", asks: 1, slow: true},
		{name: "reconnecting-eventsource"},
		{name: "eventsource of npm", asks: 1},
		{name: "htmx"},
	}
	all := func(what string, holds func(*npmClient) bool) {
		for _, c := range clients {
			eventually(t, c.name+" "+what, func() bool { return holds(c) })
		}
	}

	browser := openPage(t, "about:blank")
	for _, c := range clients {
		c.line = newProxy(t, s.address())
		c.line.hurry = true
		site.open(t, c, browser, j)
	}
	all("comes back to a full server", func(c *npmClient) bool { return len(c.line.streams()) >= 2 })
	cutLines(clients)
	asked := map[*npmClient]int{}
	for _, c := range clients {
		asked[c] = len(c.line.streams())
	}
	all("has a line that will be cut", func(c *npmClient) bool { return len(c.line.streams()) > asked[c] })
	for _, st := range full {
		st.close()
	}
	sayTokens(call, tokens)
	all("sees the first half", func(c *npmClient) bool { return len(c.seen()) >= tokens+2 && c.line.whole() })
	require.Zero(t, s.signal(syscall.SIGTERM))
	s.boot()
	call = up.next()
	call.answer(http.StatusOK, "text/event-stream")
	all("comes back to the next server", func(c *npmClient) bool { return len(c.seen()) >= tokens+4 })
	cutLines(clients)
	sayTokens(call, tokens)
	call.end()

	want := s.events(j.ID, "").rest()
	require.Len(t, want, 2*(tokens+2)+1)
	all("sees the end", func(c *npmClient) bool { return len(c.seen()) >= len(want) && c.asked(want[len(want)-1].ID) == c.asks })
	time.Sleep(time.Second) // for whoever asks once too often
	for _, c := range clients {
		require.Equal(t, shown(want), c.seen(), c.name)
		require.Len(t, c.every(), len(want), "%s was sent something twice", c.name)
		require.Equal(t, c.asks, c.asked(want[len(want)-1].ID), c.name)
	}
}

// What docs/clients.md says of those that take 204 for a failure, and are not closed: with its cursor
// such a client asks for ever, and gets no more; without, the whole job each time.
func TestClientsThatAreNotClosed(t *testing.T) {
	t.Parallel()
	const listener = "source.addEventListener(\"message\", (message) => {\n  if (take(message.data)) source.close()\n})"
	sites := map[string]*clientSite{
		"listener": newClientSite(t, "if (take(message.data)) source.close()", "take(message.data)"),
		"property": newClientSite(t, listener, "source.onmessage = (message) => take(message.data)"),
		"htmx":     newClientSite(t, ".type)) source.close()", ".type)) return"),
	}
	var origins []string
	for _, site := range sites {
		origins = append(origins, site.URL)
	}
	s := start(t, object{"cors": object{"origins": origins}, "kinds": object{"steps": steps("20")}})
	j := s.submit("steps", nil)
	s.until(j.ID, "succeeded")
	want := s.events(j.ID, "").rest()

	browser := openPage(t, "about:blank")
	clients := map[string]*npmClient{"listener": {name: "reconnecting-eventsource"}, "property": {name: "reconnecting-eventsource"}, "htmx": {name: "htmx"}}
	for name, c := range clients {
		c.line = newProxy(t, s.address())
		c.line.hurry = true
		sites[name].open(t, c, browser, j)
	}
	for name, c := range clients {
		eventually(t, name+" asks again and again", func() bool { return c.asked(want[len(want)-1].ID) >= 3 })
	}
	require.Equal(t, shown(want), clients["listener"].seen())
	require.Len(t, clients["listener"].every(), len(want))
	require.Equal(t, shown(want), clients["property"].seen(), "the page knows what it had")
	require.GreaterOrEqual(t, len(clients["property"].every()), 2*len(want))
	require.GreaterOrEqual(t, len(clients["htmx"].seen()), 2*len(want))
}

// cutLines has each client's line cut, every few events and at all places of one.
func cutLines(clients []*npmClient) {
	for _, c := range clients {
		n := 15
		if c.slow {
			n = 4
		}
		cuts := make([]int, n)
		for i := range cuts {
			cuts[i] = 1500 + (i*97)%900
		}
		c.line.cut(cuts...)
	}
}

// asked returns how often the client asked for what is behind an event.
func (c *npmClient) asked(id string) (n int) {
	for _, r := range c.line.streams() {
		q := r.URL.Query()
		if slices.Contains([]string{r.Header.Get("Last-Event-ID"), q.Get("lastEventId"), q.Get("after")}, id) {
			n++
		}
	}
	return n
}

func sayTokens(c *call, n int) {
	for i := range n {
		c.say("event: token\ndata: {\"n\":%d}\n\n", i)
	}
}

func shown(events []event) (s []shownEvent) {
	for _, e := range events {
		s = append(s, shownEvent{e.Seq, e.Type})
	}
	return s
}

// clientSite is a web site whose pages run the code of docs/clients.md.
type clientSite struct {
	*httptest.Server
	doc string
}

// newClientSite runs a site until the test ends; edits are pairs of a text of the document, and another
// in its place.
func newClientSite(t *testing.T, edits ...string) *clientSite {
	t.Helper()
	doc, err := os.ReadFile("../docs/clients.md")
	require.NoError(t, err)
	site := &clientSite{doc: strings.NewReplacer(edits...).Replace(string(doc))}
	require.Equal(t, len(edits) > 0, site.doc != string(doc), "%q", edits)
	mux := http.NewServeMux()
	mux.Handle("/node_modules/", http.FileServer(http.Dir(".")))
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(site.page(r.FormValue("client"), r.FormValue("server"), r.FormValue("url"), r.FormValue("token"))))
	})
	site.Server = httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site
}

// section returns the first piece of code below a heading of the document, and its language.
func (s *clientSite) section(heading string) (language, code string) {
	_, text, _ := strings.Cut(s.doc, "\n## "+heading+"\n")
	m := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindStringSubmatch(text)
	if m == nil {
		return "", "no such section: " + heading
	}
	return m[1], m[2]
}

// imports are the modules that a page's code names as it would for a bundler.
const imports = `{"imports": {
	"@microsoft/fetch-event-source": "/node_modules/@microsoft/fetch-event-source/lib/esm/index.js",
	"/node_modules/@microsoft/fetch-event-source/lib/esm/fetch": "/node_modules/@microsoft/fetch-event-source/lib/esm/fetch.js",
	"/node_modules/@microsoft/fetch-event-source/lib/esm/parse": "/node_modules/@microsoft/fetch-event-source/lib/esm/parse.js",
	"event-source-polyfill": "data:text/javascript,export const { EventSourcePolyfill } = globalThis",
	"reconnecting-eventsource": "/node_modules/reconnecting-eventsource/build/esm/reconnecting-eventsource.js"
}}`

// noting writes down what comes, before the page's code sees it.
const noting = `
globalThis.every = []
globalThis.seen = []
const parse = JSON.parse
JSON.parse = (text) => {
	const value = parse(text)
	if (value?.seq && value.type !== "stream.end") every.push(value.seq)
	return value
}
const show = (event) => seen.push({ Seq: event.seq, Type: event.type })
`

// page returns a page that runs a client.
func (s *clientSite) page(client, server, url, token string) string {
	language, code := s.section(client)
	_, shared := s.section("What they share")
	head := `<!doctype html><meta charset="utf-8"><script type="importmap">` + imports + `</script>`
	if language == "html" {
		return head + `<script src="/node_modules/htmx.org/dist/htmx.js"></script>
			<script>` + noting + `</script>` + strings.ReplaceAll(code, "{{ url }}", url) + `<script src="/node_modules/htmx-ext-sse/dist/sse.js"></script>`
	}
	return head + `<script src="/node_modules/event-source-polyfill/src/eventsource.js"></script>
		<script type="module">` + noting + fmt.Sprintf("const server = %q, url = %q, token = %q\n", server, url, token) + shared + code + `</script>`
}

// open has the client read the job, in a window of the browser or in Node.
func (s *clientSite) open(t *testing.T, c *npmClient, browser context.Context, j jobState) {
	t.Helper()
	address := c.line.URL() + j.Links["events"] + "?names=off"
	if c.name == "eventsource of npm" {
		s.inNode(t, c, address)
		return
	}
	window, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	q := url.Values{"client": {c.name}, "server": {c.line.URL()}, "url": {address}, "token": {j.Token}}
	require.NoError(t, chromedp.Do(window, chromedp.Navigate(s.URL+"/page?"+q.Encode())))
	seen := "seen"
	if c.name == "htmx" {
		seen = `[...document.querySelectorAll("li")].map((item) => item.textContent.split(" ")).map(([seq, type]) => ({ Seq: Number(seq), Type: type }))`
	}
	c.seen = func() []shownEvent { return evaluate[[]shownEvent](t, window, seen) }
	c.every = func() []uint64 {
		if c.name == "htmx" { // its page looks at each twice
			return evaluate[[]uint64](t, window, `every.filter((_, i) => i % 2)`)
		}
		return evaluate[[]uint64](t, window, `every`)
	}
}

// inNode runs the client in Node, which prints what it sees.
func (s *clientSite) inNode(t *testing.T, c *npmClient, address string) {
	t.Helper()
	_, shared := s.section("What they share")
	_, code := s.section(c.name)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	t.Cleanup(cancel)
	var out lockedBuffer
	cmd := exec.CommandContext(ctx, "node", "--input-type=module")
	cmd.Stdin = strings.NewReader(noting + fmt.Sprintf("const url = %q\n", address) + shared + code +
		`const told = () => console.log(JSON.stringify({ seen, every })); setInterval(told, 100).unref(); process.on("exit", told)`)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if said := out.String(); t.Failed() {
			t.Logf("Node said at last: %s", said[max(0, len(said)-2000):])
		}
	})
	said := func() (v struct {
		Seen  []shownEvent
		Every []uint64
	}) {
		lines := strings.Split(out.String(), "\n")
		if len(lines) > 1 { // the last is still to come
			require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-2]), &v), "%s", out.String())
		}
		return v
	}
	c.seen = func() []shownEvent { return said().Seen }
	c.every = func() []uint64 { return said().Every }
}

// lockedBuffer is a buffer that is read while it is written to, by whole writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

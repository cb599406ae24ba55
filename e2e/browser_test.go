package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// tokens are what the upstream of the page's job says.
const tokens = 40

// A browser on a bad line: its page submits, listens with the native EventSource
// through a proxy that cuts the stream twice in the middle, resumes by itself,
// sees every event once, and stops for good when the server says that it is over.
func TestBrowserResumesAndStops(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	page := serveFiles(t, "testdata")
	s := start(t, object{
		"cors":  object{"origins": []string{page.URL}},
		"kinds": object{"tokens": object{"http": object{"url": up.URL}}},
	})
	line := newProxy(t, s.address(), 1500, 3333)
	b := openPage(t, page.URL+"/page.html?base="+url.QueryEscape(line.URL()))

	call := up.next()
	call.answer(http.StatusOK, "text/event-stream")
	for n := range tokens {
		call.say("event: token\ndata: {\"n\":%d}\n\n", n)
	}
	call.end()
	pollPage(t, b, `source && source.readyState === EventSource.CLOSED`)

	seen := evaluate[[]struct{ ID, Type, Data string }](t, b, "seen")
	want := s.events(call.Header.Get("Millstream-Job"), "").rest()
	require.Len(t, seen, len(want))
	for i, e := range want {
		require.Equal(t, e.ID, seen[i].ID)
		require.Equal(t, e.Type, seen[i].Type)
		require.Equal(t, e.raw, seen[i].Data)
	}
	requests := line.streams()
	require.Len(t, requests, 4, "the first, one after each cut, and the one that is told that it is over")
	require.Empty(t, requests[0].Header.Get("Last-Event-ID"))
	require.Equal(t, want[len(want)-1].ID, requests[3].Header.Get("Last-Event-ID"))
	require.Zero(t, up.asked(), "the upstream was asked again")
}

// A page of somebody else gets nothing done and sees nothing.
func TestBrowserKeepsForeignPagesOut(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	page := serveFiles(t, "testdata")
	s := start(t, object{"kinds": object{"tokens": object{"http": object{"url": up.URL}}}})
	b := openPage(t, page.URL+"/page.html?base="+url.QueryEscape(s.base))
	pollPage(t, b, `failure !== ''`)
	require.Contains(t, evaluate[string](t, b, "failure"), "TypeError") // what fetch says of a refusal

	j := s.submit("tokens", object{})
	evaluate[any](t, b, `listen("`+s.base+j.Links["events"]+`")`)
	pollPage(t, b, `source.readyState === EventSource.CLOSED`)
	require.Empty(t, evaluate[[]any](t, b, "seen"))
	up.next().end()
	require.Zero(t, up.asked(), "the page had work done")
}

// serveFiles serves a directory as a web site of its own origin.
func serveFiles(t *testing.T, dir string) *httptest.Server {
	site := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(site.Close)
	return site
}

// openPage shows the page in Debian's Chromium.
func openPage(t *testing.T, address string) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"),
		chromedp.NoSandbox, // CI runs as root
		chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-networking", true),
	)
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(address)))
	return ctx
}

// pollPage waits until the expression is true in the page.
func pollPage(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience)))
	if err != nil {
		t.Fatalf("not in the page: %s: %v\n%s", expression, err, evaluate[string](t, ctx, `document.body.innerText`))
	}
}

func evaluate[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(t, err)
	return v
}

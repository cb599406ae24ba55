package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Seven tabs of one browser follow a job over HTTP/1.1, which has connections for six of them: who
// looks at one sees what happens as it happens, and each has seen all of it in the end.
func TestSevenTabs(t *testing.T) {
	t.Parallel()
	var p *proxy
	w := watchIt(t, nil, func(s *server) string {
		p = newProxy(t, s.address())
		return p.URL()
	})
	tabs := []context.Context{w.page}
	for len(tabs) < 7 {
		tabs = append(tabs, w.tab())
	}
	said := 2 // events, so far
	say := func() {
		w.say(said, said+5)
		said += 5
	}
	say()
	for i := 6; i >= 0; i-- { // the last one is in front
		toFront(t, tabs[i])
		sees(t, tabs[i], said)
		say()
		sees(t, tabs[i], said)
		require.Empty(t, evaluate[[]string](t, tabs[i], "transports"), "tab %d polls", i)
	}
	eventually(t, "the hidden ones give their connections back", func() bool { return p.live.Load() == 1 })
	w.call.end()
	want := w.events(w.job.ID, "").rest()
	for i, tab := range tabs {
		toFront(t, tab)
		sees(t, tab, len(want))
		require.Equal(t, shown(want), shown(evaluate[[]event](t, tab, "seen")), "tab %d", i)
	}
}

// A tab that is opened in the background has no stream, and sees all the same what there is.
func TestTabInTheBackground(t *testing.T) {
	t.Parallel()
	var p *proxy
	w := watchIt(t, object{"hidden": 1e15}, func(s *server) string {
		p = newProxy(t, s.address())
		return p.URL()
	})
	w.say(0, 5)
	w.seen(7)
	there := strings.Replace(evaluate[string](t, w.page, "location.href"), url.QueryEscape(`{"hidden":1000000000000000}`), "%7B%7D", 1)
	background := true
	made, err := chromedp.CallBrowser(w.page, target.CreateTarget, target.CreateTargetParams{URL: there, Background: &background})
	require.NoError(t, err)
	tab, cancel := chromedp.NewContext(w.page, chromedp.WithTargetID(made.TargetID))
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(tab))
	sees(t, tab, 7)
	require.Equal(t, "hidden", evaluate[string](t, tab, "document.visibilityState"))
	require.Len(t, p.streams(), 1, "that of the page in front")
	toFront(t, tab)
	w.say(5, 10)
	sees(t, tab, 12)
	require.Len(t, p.streams(), 2)
	w.over()
	eventually(t, "the tab sees the end", func() bool { return evaluate[bool](t, tab, `window.ended === "over"`) })
}

// tab shows the page in another tab of its window.
func (w *watched) tab() context.Context {
	w.t.Helper()
	tab, cancel := chromedp.NewContext(w.page, chromedp.WithNewWindow(false))
	w.t.Cleanup(cancel)
	require.NoError(w.t, chromedp.Do(tab, chromedp.Navigate(evaluate[string](w.t, w.page, "location.href"))))
	return tab
}

func toFront(t *testing.T, tab context.Context) {
	t.Helper()
	_, err := chromedp.Call(tab, page.BringToFront, cdp.Empty{})
	require.NoError(t, err)
}

func sees(t *testing.T, tab context.Context, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the tab sees %d events", n), func() bool { return evaluate[int](t, tab, "window.seen?.length ?? 0") >= n })
}

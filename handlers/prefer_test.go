package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPreferences(t *testing.T) {
	wait := func(s int) preferences { return preferences{waits: true, wait: time.Duration(s) * time.Second} }
	async := func(p preferences) preferences { p.async = true; return p }
	for header, want := range map[string]preferences{
		"":                                      {},
		"respond-async":                         async(preferences{}),
		"Respond-Async":                         async(preferences{}),
		"respond-async, wait=10":                async(wait(10)),
		"wait=10,respond-async":                 async(wait(10)),
		"respond-async\nwait=10":                async(wait(10)), // two headers
		"wait=0":                                wait(0),
		"wait=30":                               wait(30),
		"wait=31":                               wait(30),
		"wait=99999999999999999999999999999999": wait(30),
		`wait="10"`:                             wait(10),
		`wait="1\0"`:                            wait(10),
		"wait = 10":                             wait(10),
		"wait=10; a=b":                          wait(10),
		`wait=10;a=",wait=20";b, respond-async`: async(wait(10)),
		"wait=10, wait=20":                      wait(10), // the first counts
		"wait=soon, wait=20":                    {},       // even if it says nothing
		`foo="respond-async, wait=5", wait=7`:   wait(7),
		`foo="a\", wait=5", wait=7`:             wait(7),
		`foo="wait=5`:                           {}, // a string without end
		", ,wait=5,,":                           wait(5),
		"=5, wait=6":                            wait(6),
		"a b=5, wait=6":                         wait(6),
		"wait":                                  {},
		"wait=":                                 {},
		"wait=-1":                               {},
		"wait=+1":                               {},
		"wait=1.5":                              {},
		"wait=1s":                               {},
		"wait=0x10":                             {},
		"wait=١":                                {},
		`wait="`:                                {},
		"respond-async=no":                      async(preferences{}), // RFC 7240: a value it has not is nothing
		"handling=lenient, return=minimal":      {},
	} {
		t.Run(header, func(t *testing.T) {
			require.Equal(t, want, preferencesOf(http.Header{"Prefer": strings.Split(header, "\n")}))
		})
	}
}

func FuzzPreferences(f *testing.F) {
	for _, s := range []string{"", "respond-async, wait=10", `a="\"";b, wait="3"`, "wait=99999999999999999999", `"`, `=\`, "wait=1;,respond-async"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		p := preferencesOf(http.Header{"Prefer": {header}})
		require.GreaterOrEqual(t, p.wait, time.Duration(0))
		require.LessOrEqual(t, p.wait, maxWait)
		require.False(t, !p.waits && p.wait > 0)

		// What is said after it in a header of its own counts, unless it was said
		// before or is inside a string that the first header left open.
		after := preferencesOf(http.Header{"Prefer": {header, "respond-async"}})
		require.Equal(t, p.waits, after.waits)
		if !strings.Contains(header, `"`) {
			require.True(t, after.async)
		}
		require.Equal(t, preferences{waits: true, wait: 3 * time.Second, async: p.async},
			preferencesOf(http.Header{"Prefer": {"wait=3", header}}), "what is said before it counts")
	})
}

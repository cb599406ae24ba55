package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// cursorNames are the parameters that name a cursor, the first that is there wins: what a
// polyfill adds moves, and the after of its page's address stays what it was.
var cursorNames = []string{"lastEventId", "last_event_id", "after"}

// single are the parameters that one value is taken of, beside the cursors.
var single = append([]string{"format", "names", "limit", "wait", "access_token"},
	slices.DeleteFunc(slices.Clone(known), func(option string) bool { return option == "tags" })...)

// wellFormed refuses a query that cannot be read as it was meant: to leave out what
// is broken in it would be to do something else than was asked for. An EventSource
// hears it at its first request, and at no other: it repeats its address. Only its
// cursor changes, so a broken cursor is told in band, as any other bad one is.
func wellFormed(c *gin.Context) error {
	q, err := parseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return err
	}
	for _, name := range single {
		if len(q[name]) > 1 {
			return job.Problemf("invalid-request", "%s: is there twice", name)
		}
	}
	return nil
}

// queryOf returns the query of a request that is wellFormed.
func queryOf(r *http.Request) url.Values {
	q, _ := parseQuery(r.URL.RawQuery)
	return q
}

// parseQuery reads a query as net/url does, but keeps a broken cursor as it is: no
// cursor looks like it.
func parseQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	q := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		one, err := url.ParseQuery(pair)
		switch {
		case err == nil:
			for name, values := range one {
				q[name] = append(q[name], values...)
			}
		case slices.Contains(cursorNames, name):
			q.Add(name, value)
		default:
			return q, job.Problemf("invalid-request", "The query has %q: parameters are separated by &, and what is not a letter or digit is escaped with %%.", clip(pair, maxEchoName))
		}
	}
	return q, nil
}

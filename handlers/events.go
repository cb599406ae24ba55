package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/sse"
)

// The representations of a job's events.
const (
	sseType    = sse.ContentType
	ndjsonType = "application/x-ndjson"
)

// events answers GET /v1/jobs/{id}/events: those after the client's cursor, then
// the rest as they happen, until the last one.
func (a *API) events(c *gin.Context) error {
	query := queryOf(c.Request)
	format, err := a.formatOf(c.Request, query)
	if err != nil {
		return err
	}
	unnamed, err := unnamedIn(query)
	if err != nil {
		return err
	}
	r := reading{format: format, place: placeOf(c.Request.Header, query), types: typesOf(query), unnamed: unnamed}
	c.Set(asked, r)
	j, err := a.lookup(c)
	switch {
	case err != nil:
		return a.refuseReading(c, err)
	case format == jsonType:
		return a.page(c, &j, r, query)
	case j.Status.Over() && r.place.cursor == j.Cursor && format != socketType:
		c.Header("Cache-Control", "no-store")
		return sendNothing(c, http.StatusNoContent) // an EventSource stops coming back
	}
	return a.stream(c, &j, r)
}

// reading is what a request wants to read, and how.
type reading struct {
	format string // media type
	place  place
	types  filter

	unnamed bool // no event: line, so that EventSource's onmessage gets all
}

// asked is where the reading that a request asks for is kept with it.
const asked = "reading"

// formatOf returns the media type to answer with. What accepts none of them gets
// a stream: curl and EventSource polyfills say little.
func (a *API) formatOf(r *http.Request, q url.Values) (string, error) {
	if wantsSocket(r) {
		return socketType, a.handshake(r)
	}
	switch f := q.Get("format"); f {
	case "":
		return negotiate(r.Header, sseType, jsonType, ndjsonType), nil
	case "sse":
		return sseType, nil
	case "json":
		return jsonType, nil
	case "ndjson":
		return ndjsonType, nil
	default:
		return "", job.Problemf("invalid-request", "format: must be sse, json or ndjson")
	}
}

// unnamedIn reads names=on|off.
func unnamedIn(q url.Values) (bool, error) {
	switch q.Get("names") {
	case "", "on":
		return false, nil
	case "off":
		return true, nil
	}
	return false, job.Problemf("invalid-request", "names: must be on or off")
}

// filter is the set of types that a reader wants; nil: all.
type filter map[string]bool

// typesOf reads types=a,b, however often it is there.
func typesOf(q url.Values) filter {
	var f filter
	for t := range strings.SplitSeq(strings.Join(q["types"], ","), ",") {
		if t = strings.TrimSpace(t); t != "" {
			if f == nil {
				f = filter{}
			}
			f[t] = true
		}
	}
	return f
}

// passes reports whether events of the type are wanted. The last one always is, and that
// there will be none: without it a reader would wait for ever.
func (f filter) passes(t string) bool {
	return f == nil || f[t] || job.Type(t).Terminal() || job.Type(t) == job.StreamErased
}

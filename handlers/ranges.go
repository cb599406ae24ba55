package handlers

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// maxRanges is how many ranges a request may ask for and get them: each is a read of
// the store and some headers of its own (RFC 9110, 14.2 lets us send the whole).
const maxRanges = 16

// forServeContent returns r as http.ServeContent understands it: which reads only the
// first line of a list, and refuses ranges that are none to it.
func forServeContent(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if list := listOf(r.Header, name); list != "" {
			r.Header.Set(name, list)
		}
	}
	if ask := r.Header.Get("Range"); ask != "" {
		r.Header.Del("Range")
		if ranges, ok := rangesIn(ask); ok && r.Method != http.MethodHead { // a HEAD has none (RFC 9110, 14.2)
			r.Header.Set("Range", "bytes="+ranges)
		}
	}
	return r
}

// listOf returns a header that is a list, on however many lines it came.
func listOf(h http.Header, name string) string { return strings.Join(h.Values(name), ", ") }

// rangesIn returns the ranges that a Range header asks for; ok is false if it is in
// another unit than bytes, or asks for too many: then it is ignored (RFC 9110, 14.2).
func rangesIn(ask string) (ranges string, ok bool) {
	unit, list, _ := strings.Cut(ask, "=")
	each := strings.Split(list, ",")
	if !strings.EqualFold(unit, "bytes") || len(each) > maxRanges {
		return "", false
	}
	for i := range each {
		each[i] = readable(each[i])
	}
	return strings.Join(each, ","), true
}

// beyond is more bytes than a result has, in as many digits as surely fit an int64.
const beyond = "999999999999999999"

var tooManyDigits = regexp.MustCompile("0*[1-9][0-9]{" + strconv.Itoa(len(beyond)) + ",}")

// readable returns the range with numbers that http.ServeContent can read: those that
// are too large for it mean what all do that are larger than the result (RFC 9110,
// 14.1.2). The last no bytes are no range: http.ServeContent would send them.
func readable(r string) string {
	r = strings.TrimSpace(tooManyDigits.ReplaceAllString(r, beyond))
	if strings.HasPrefix(r, "-") && strings.Contains(r, "0") && strings.Trim(r[1:], "0 \t") == "" {
		return beyond + "-"
	}
	return r
}

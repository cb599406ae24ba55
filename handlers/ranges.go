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

// inBytes returns r with its Range as http.ServeContent understands it. One in another
// unit than bytes, or of a HEAD, is ignored (RFC 9110, 14.2).
func inBytes(r *http.Request) *http.Request {
	ask := r.Header.Get("Range")
	if ask == "" {
		return r
	}
	r = r.Clone(r.Context())
	unit, list, _ := strings.Cut(ask, "=")
	ranges := strings.Split(list, ",")
	if r.Method == http.MethodHead || !strings.EqualFold(unit, "bytes") || len(ranges) > maxRanges {
		r.Header.Del("Range")
		return r
	}
	for i := range ranges {
		ranges[i] = readable(ranges[i])
	}
	r.Header.Set("Range", "bytes="+strings.Join(ranges, ","))
	return r
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

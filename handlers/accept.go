package handlers

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// mediaRange is one element of an Accept header (RFC 9110 12.5.1).
type mediaRange struct {
	name string // a/b, a/* or */*
	q    float64
}

// acceptable reads the request's Accept headers; what is malformed is ignored.
func acceptable(h http.Header) (ranges []mediaRange) {
	for _, element := range listed(h, "Accept") {
		name, params, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		r := mediaRange{name: name, q: 1}
		if text, ok := params["q"]; ok {
			if r.q, err = strconv.ParseFloat(text, 64); err != nil || !(r.q >= 0 && r.q <= 1) {
				continue
			}
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// negotiate returns the offer that the Accept header likes best. Of two that it
// likes as much, one it names goes before one that a wildcard covers, then the
// earlier offer. If it likes none, the first is served anyway.
func negotiate(h http.Header, offers ...string) string {
	ranges := acceptable(h)
	best, bestQ, bestFit := offers[0], 0.0, 0
	for _, offer := range offers {
		q, fit := quality(ranges, offer)
		if q > bestQ || q == bestQ && q > 0 && fit > bestFit {
			best, bestQ, bestFit = offer, q, fit
		}
	}
	return best
}

// quality returns the weight of the range that fits the offer most closely, and
// how closely that is.
func quality(ranges []mediaRange, offer string) (q float64, fit int) {
	major, _, _ := strings.Cut(offer, "/")
	for _, r := range ranges {
		f := 0
		switch r.name {
		case offer:
			f = 3
		case major + "/*":
			f = 2
		case "*/*":
			f = 1
		}
		if f > fit {
			q, fit = r.q, f
		}
	}
	return q, fit
}

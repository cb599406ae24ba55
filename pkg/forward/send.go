package forward

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Of the two the second uses each connection once: to write to one that the upstream has just
// closed is to not know whether it was read.
var pooled, single = sender(false), sender(true)

// maxAnswerHeaders is how large the headers of an answer may be: as those of a request. They
// are kept with it.
const maxAnswerHeaders = 32 << 10

func sender(once bool) *http.Transport {
	t := transport()
	t.DisableKeepAlives = once
	return t
}

// Send sends a request once, unless it is idempotent, and returns whatever is answered. It
// follows no redirects: a request goes to the host that the configuration names; an http.Client
// fails on one that it cannot read all the same. Nothing that it gets is decompressed.
func Send(r *http.Request, idempotent bool) (*http.Response, error) {
	if u := r.URL.User; u != nil && r.Header.Get("Authorization") == "" { // as an http.Client has it
		password, _ := u.Password()
		r.SetBasicAuth(u.Username(), password)
	}
	if idempotent {
		return pooled.RoundTrip(r)
	}
	return single.RoundTrip(r)
}

// Straight returns a copy of c that follows no redirects.
func Straight(c *http.Client) *http.Client {
	straight := *c
	straight.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &straight
}

// transport returns net/http's own transport, but one that leaves bodies as they are.
func transport() *http.Transport {
	t := standard(http.DefaultTransport)
	t.DisableCompression, t.MaxResponseHeaderBytes = true, maxAnswerHeaders
	return t
}

// standard returns a copy of net/http's own transport. If the program has put another
// thing in its place, which cannot be told what is needed here, it is one like it.
func standard(own http.RoundTripper) *http.Transport {
	if t, ok := own.(*http.Transport); ok {
		return t.Clone()
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

// Wire knows how far a request has come.
type Wire struct{ asked, got atomic.Bool }

// Trace returns what tells it.
func (w *Wire) Trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.got.Store(true) },
	}
}

// Untouched reports whether the upstream has surely seen nothing of the request: a
// connection was asked for and none was had.
func (w *Wire) Untouched() bool { return w.asked.Load() && !w.got.Load() }

// Failed is the problem of a request that was not answered, or not to the end; how says what
// happened to one that was sent. Unless it is idempotent, that one must not be sent again.
func Failed(untouched, idempotent bool, how string) (p *job.Problem) {
	switch {
	case untouched:
		p = job.Problemf("upstream-failed", "the upstream could not be reached")
	case idempotent:
		p = job.Problemf("upstream-failed", "%s", how)
	default:
		return job.Problemf("outcome-unknown", "the request was sent, but %s", how)
	}
	p.Retryable = true
	return p
}

// Final fails on a response that is no answer: its status is none, or says that the upstream
// speaks another protocol from here on, which it was not asked to. Nobody knows where that ends,
// so nothing of it is to be read.
func Final(r *http.Response) error {
	if r.StatusCode < http.StatusOK {
		return fmt.Errorf("the upstream answered with status %q, which is none of an answer", r.Status)
	}
	return nil
}

// Later reports whether an answer with this status says that nothing was done, and that the
// request may come again.
func Later(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// maxRetryAfter is the longest wait an upstream may ask for: its job would be forgotten
// later on.
const maxRetryAfter = 24 * time.Hour

// RetryAfter reads a Retry-After header (RFC 9110, 10.2.3): seconds or a date. 0: it says
// nothing.
func RetryAfter(s string, now time.Time) time.Duration {
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case err == nil:
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	case errors.Is(err, strconv.ErrRange): // digits only, and too many of them
		return maxRetryAfter
	}
	if at, err := http.ParseTime(s); err == nil {
		return min(max(0, at.Sub(now)), maxRetryAfter)
	}
	return 0
}

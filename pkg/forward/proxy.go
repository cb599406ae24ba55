package forward

import (
	"context"
	"log"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
)

// Proxy passes requests straight through to a target, and the answers back, as they come.
type Proxy struct {
	proxy httputil.ReverseProxy
}

// NewProxy returns a proxy that writes what it cannot tell anybody to log.
func NewProxy(t *Target, log *log.Logger) *Proxy {
	tr := transport()
	tr.ResponseHeaderTimeout = t.Timeout
	tr.MaxIdleConnsPerHost = tr.MaxIdleConns // there is one
	return &Proxy{httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = t.Upstream.Scheme, t.Upstream.Host, ""
			r.Out.URL.RawQuery = r.In.URL.RawQuery // what cannot be parsed is not ours to drop
			r.Out.Trailer = nil                    // httputil announces them, and then has none
			if !t.Idempotent {
				hideKeys(r.Out.Header)
			}
			AddForwarded(r.Out.Header, r.In)
		},
		ModifyResponse: Final,
		Transport:      tr,
		FlushInterval:  -1, // at once
		BufferPool:     new(pool),
		ErrorLog:       log,
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			*r.Context().Value(failure{}).(*error) = err
		},
	}}
}

// hideKeys spells the headers with the key of a request so that net/http does not see them: it
// would send the request again by itself, if a connection ends under it. What they mean to the
// upstream nobody knows.
func hideKeys(h http.Header) {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

// failure is where a request has the place for its error.
type failure struct{}

// Pass passes r on with these headers in place of its own, and answers on w. An error says
// that there is no answer, and nothing was written. One that breaks off ends the connection:
// Pass panics with http.ErrAbortHandler.
func (p *Proxy) Pass(w http.ResponseWriter, r *http.Request, header http.Header) (err error) {
	r = r.WithContext(context.WithValue(r.Context(), failure{}, &err))
	r.Header = header
	p.proxy.ServeHTTP(w, r)
	return err
}

// pool keeps the buffers of answers under way.
type pool struct{ sync.Pool }

// bufferSize is what is read of an answer at once: as net/http writes it.
const bufferSize = 32 << 10

// Get returns a buffer.
func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, bufferSize)
}

// Put takes it back.
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

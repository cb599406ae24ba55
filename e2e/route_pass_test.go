package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// oldAPI answers in every way that an API that has been there for long may.
func oldAPI(t *testing.T) *httptest.Server {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, strings.Repeat("<row/>", 1000))
	require.NoError(t, z.Close())
	mux := http.NewServeMux()
	file := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	mux.HandleFunc("/legacy/file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "report.csv", file, strings.NewReader("a;b;c\n1;2;3\n"))
	})
	mux.HandleFunc("/legacy/zip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Content-Type", "text/xml")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("<row/>", 1000))
	})
	mux.HandleFunc("/legacy/chunks", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		for range 3 {
			_, _ = io.WriteString(w, "chunk\n")
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "3")
	})
	mux.HandleFunc("/legacy/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := w.Header()
		h["Content-Type"] = nil
		h["Set-Cookie"] = []string{"a=b; HttpOnly", "c=d"}
		h.Set("X-Content-Type-Options", "sniff if you like")
		h.Set("Cache-Control", "public, max-age=5")
		h.Set("X-Seen", r.Method+" "+r.RequestURI+" "+r.Header.Get("Soapaction")+" "+r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/legacy/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/legacy/move", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://legacy.internal/legacy/file", http.StatusFound)
	})
	mux.HandleFunc("/legacy/fail", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "kaputt", http.StatusInternalServerError) })
	mux.HandleFunc("/legacy/old", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.0 200 As Ever\r\nX-Old: 1\r\nDate: Sat, 03 Feb 2001 04:05:06 GMT\r\n\r\nno length")
			_ = conn.Close()
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "Sat, 03 Feb 2001 04:05:06 GMT")
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// Through a route, without Prefer, an API answers what it answers without one: asked the same
// by a socket, to the byte.
func TestRouteIsTransparent(t *testing.T) {
	t.Parallel()
	up := oldAPI(t)
	s := routed(t, up.URL, nil)
	for name, head := range map[string]string{
		"GET":                   "GET /legacy/file HTTP/1.1",
		"HEAD":                  "HEAD /legacy/file HTTP/1.1",
		"304":                   "GET /legacy/file HTTP/1.1\r\nIf-None-Match: \"v1\"",
		"304 of a date":         "GET /legacy/file HTTP/1.1\r\nIf-Modified-Since: Sat, 03 Feb 2001 04:05:06 GMT",
		"412":                   "GET /legacy/file HTTP/1.1\r\nIf-Match: \"v0\"",
		"a range":               "GET /legacy/file HTTP/1.1\r\nRange: bytes=2-5",
		"a range of the old":    "GET /legacy/file HTTP/1.1\r\nRange: bytes=2-5\r\nIf-Range: \"v0\"",
		"416":                   "GET /legacy/file HTTP/1.1\r\nRange: bytes=99-",
		"gzip":                  "GET /legacy/zip HTTP/1.1\r\nAccept-Encoding: gzip",
		"not gzip":              "GET /legacy/zip HTTP/1.1",
		"gzip not wanted":       "GET /legacy/zip HTTP/1.1\r\nAccept-Encoding: identity",
		"HEAD of gzip":          "HEAD /legacy/zip HTTP/1.1\r\nAccept-Encoding: gzip",
		"chunks and a trailer":  "GET /legacy/chunks HTTP/1.1\r\nTE: trailers",
		"POST":                  "POST /legacy/echo?a=%2F&&b=c+d;e HTTP/1.1\r\nContent-Length: 4\r\nContent-Type: text/xml\r\nSOAPAction: \"x\"\r\n\r\n<a/>",
		"POST in chunks":        "POST /legacy/echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n<a\r\n2\r\n/>\r\n0\r\n\r\n",
		"POST of nothing":       "POST /legacy/echo HTTP/1.1\r\nContent-Length: 0",
		"POST that asks before": "POST /legacy/echo HTTP/1.1\r\nContent-Length: 0\r\nExpect: 100-continue",
		"GET with a body":       "GET /legacy/echo HTTP/1.1\r\nContent-Length: 4\r\n\r\n<a/>",
		"204":                   "DELETE /legacy/empty HTTP/1.1",
		"302":                   "GET /legacy/move HTTP/1.1",
		"404":                   "GET /legacy/none HTTP/1.1",
		"500":                   "PATCH /legacy/fail HTTP/1.1",
		"OPTIONS":               "OPTIONS /legacy/echo HTTP/1.1",
		"other preferences":     "GET /legacy/file HTTP/1.1\r\nPrefer: wait=5, return=minimal",
		"HTTP/1.0, no length":   "GET /legacy/old HTTP/1.1",
	} {
		t.Run(name, func(t *testing.T) {
			directly, through := askRaw(t, strings.TrimPrefix(up.URL, "http://"), head), askRaw(t, s.address(), head)
			require.Equal(t, directly.Status, through.Status)
			require.Equal(t, directly.Header, through.Header)
			require.Equal(t, string(directly.Body), string(through.Body))
		})
	}
}

// rawAnswer is an answer as it came over a socket.
type rawAnswer struct {
	Status int
	Header http.Header // with the trailers
	Body   []byte
}

func askRaw(t *testing.T, address, request string) (a rawAnswer) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	head, body, _ := strings.Cut(request, "\r\n\r\n")
	line, headers, _ := strings.Cut(head, "\r\n")
	if headers != "" {
		headers += "\r\n"
	}
	_, err = io.WriteString(conn, line+"\r\nHost: "+address+"\r\n"+headers+"\r\n"+body)
	require.NoError(t, err)
	method, _, _ := strings.Cut(line, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	a.Body, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	a.Status, a.Header = resp.StatusCode, resp.Header
	for name, values := range resp.Trailer {
		a.Header["Trailer:"+name] = values
	}
	return a
}

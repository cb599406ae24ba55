package handlers

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// A body has to keep coming, so that nobody holds a connection for nothing: one of
// limits.body bytes takes bodyIdle and its bytes at bodyRate, at the most.
const (
	bodyIdle = 30 * time.Second // to begin, and between any two pieces: no longer than a proxy would wait
	bodyRate = 8 << 10          // bytes a second on the whole, after bodyIdle: a phone on a bad line
)

// pacedBody is a request's body with a deadline that moves on as its bytes come.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	begin   time.Time // later by all the time that nobody read: that is not the sender's
	armed   time.Time // when the deadline was set
	left    time.Time // when the last Read was over
	size    int64     // bytes that came
	over    bool      // net/http has taken the deadline back
}

// Read reads on, and fails with os.ErrDeadlineExceeded on a body that is too slow.
func (b *pacedBody) Read(p []byte) (int, error) {
	now := time.Now()
	if !b.left.IsZero() {
		b.begin = b.begin.Add(now.Sub(b.left))
	}
	if !b.over && now.Sub(b.armed) >= rearm {
		b.arm(now)
	}
	n, err := b.ReadCloser.Read(p)
	b.left = time.Now()
	b.size += int64(n)
	b.over = b.over || err != nil
	return n, err
}

func (b *pacedBody) arm(now time.Time) {
	b.armed = now
	deadline := b.begin.Add(bodyIdle + time.Duration(b.size/bodyRate)*time.Second)
	if idle := now.Add(bodyIdle); idle.Before(deadline) {
		deadline = idle
	}
	_ = b.control.SetReadDeadline(deadline) // a server without deadlines still serves
}

// body reads the request's body, at most limit bytes of it, before anything is
// stored. guarded has made it a pacedBody; net/http takes the deadline back at the
// body's end, as it does its own.
func body(c *gin.Context, limit int64) ([]byte, error) {
	if err := expected(c, limit); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	if err != nil {
		return nil, unreadable(c, limit, err)
	}
	return b, nil
}

// expected fails on a body that its headers speak against.
func expected(c *gin.Context, limit int64) error {
	if e := c.GetHeader("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		c.Header("Accept-Encoding", "identity")
		return job.Problemf("unsupported-type", "A body with Content-Encoding is not accepted.")
	}
	if c.Request.ContentLength > limit {
		return tooLarge(limit)
	}
	return nil
}

// unreadable is the error of a body that could not be read to its end, within limit.
func unreadable(c *gin.Context, limit int64, err error) error {
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.Header("Connection", "close")
		return job.Problemf("invalid-request", "The body came too slowly: it may pause for less than %s, and needs %d bytes a second.", bodyIdle, bodyRate)
	}
	return job.Problemf("invalid-request", "The body could not be read.")
}

// maxRefused is how much of a body that was refused is read, so that a client that
// sends all of it before it reads an answer gets one. net/http does the same, but
// with the answer's deadline running.
const maxRefused = 256 << 10

// settle reads what is left of the request's body. More than is read, or one that
// the client does not send before it was asked to, costs it the connection.
func settle(c *gin.Context) {
	r := c.Request
	if r.ContentLength == 0 || r.ProtoMajor == 2 || c.Writer.Header().Get("Connection") == "close" {
		return
	}
	if r.Header.Get("Expect") != "" {
		c.Header("Connection", "close")
		return
	}
	if _, err := io.CopyN(io.Discard, r.Body, maxRefused+1); err != io.EOF {
		c.Header("Connection", "close")
	}
}

func tooLarge(limit int64) *job.Problem {
	return job.Problemf("too-large", "At most %d bytes are accepted.", limit)
}

// needJSON fails unless the request's body says it is JSON. A web form cannot.
func needJSON(c *gin.Context) error {
	if job.IsJSON(c.GetHeader("Content-Type")) {
		return nil
	}
	c.Header("Accept", jsonType)
	return job.Problemf("unsupported-type", "Send it with Content-Type: %s.", jsonType)
}

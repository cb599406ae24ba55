package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const jsonType = "application/json"

// send answers with a body that is ready, or only its headers to a HEAD.
func send(c *gin.Context, status int, contentType string, body []byte) error {
	c.Header("Content-Type", contentType)
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Status(status)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return nil
	}
	_, err := newWriter(c).Write(body)
	return err
}

// sendNothing answers with headers only.
func sendNothing(c *gin.Context, status int) error {
	c.Status(status)
	c.Writer.WriteHeaderNow()
	return nil
}

const (
	writeTimeout = 5 * time.Second // for a piece; who takes longer reconnects and resumes
	piece        = 32 << 10        // so that whoever takes 8 kB a second is served
	rearm        = time.Second     // setting the deadline costs as much as a small write
)

// errReaderGone is the error of a write to somebody who left or stalled.
var errReaderGone = errors.New("the reader is gone")

// writer writes an answer to a reader that must keep taking it.
type writer struct {
	gin.ResponseWriter                          // counts the bytes
	control            *http.ResponseController // of the writer below: Gin's own hides what Flush returns
	flusher            flusher                  // the writer below, if it is one: control would look anew each time
	http2              bool
	patience           time.Duration // for a piece
	armed              time.Time     // when the deadline was set
	last               time.Time     // when something was written, or flushed
}

type flusher interface{ FlushError() error }

func newWriter(c *gin.Context) *writer {
	below := below(c)
	f, _ := below.(flusher)
	return &writer{ResponseWriter: c.Writer, control: http.NewResponseController(below), flusher: f, http2: c.Request.ProtoMajor == 2, patience: writeTimeout}
}

// below returns the writer that Gin's writes to.
func below(c *gin.Context) http.ResponseWriter {
	if u, ok := c.Writer.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap()
	}
	return c.Writer
}

// controller returns what sets the connection's deadlines.
func controller(c *gin.Context) *http.ResponseController { return http.NewResponseController(below(c)) }

// Write writes b, in one piece unless it is a large one.
func (w *writer) Write(b []byte) (n int, err error) {
	for more := true; more; more = n < len(b) {
		w.arm()
		wrote, err := w.ResponseWriter.Write(b[n:min(len(b), n+piece)])
		n += wrote
		if err != nil {
			return n, fmt.Errorf("%w: %w", errReaderGone, err)
		}
	}
	w.disarm()
	return n, nil
}

// Flush sends what was written, with the headers if they are not sent yet.
func (w *writer) Flush() error {
	w.arm()
	w.WriteHeaderNow()
	if err := w.flush(); err != nil {
		return fmt.Errorf("%w: %w", errReaderGone, err)
	}
	w.disarm()
	return nil
}

func (w *writer) flush() error {
	if w.flusher != nil {
		return w.flusher.FlushError()
	}
	return w.control.Flush()
}

func (w *writer) idleSince() time.Time { return w.last }

func (w *writer) arm() {
	now := time.Now()
	w.last = now
	if now.Sub(w.armed) >= rearm {
		w.armed = now
		_ = w.control.SetWriteDeadline(now.Add(w.patience)) // a server without deadlines still serves
	}
}

// disarm takes the deadline back on HTTP/2, where passing it ends the stream even
// while there is nothing to write.
func (w *writer) disarm() {
	if w.http2 {
		w.armed = time.Time{}
		_ = w.control.SetWriteDeadline(time.Time{})
	}
}

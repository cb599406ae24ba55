package handlers

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// bodyTimeout is how long a body may take to arrive: a megabyte at 35 kB a second,
// and no longer than a proxy would wait for the answer.
const bodyTimeout = 30 * time.Second

// body reads the request's body, at most limit bytes of it, before anything is
// stored. guarded has set the deadline; net/http takes it back at the body's end, as
// it does its own.
func body(c *gin.Context, limit int64) ([]byte, error) {
	if e := c.GetHeader("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		c.Header("Accept-Encoding", "identity")
		return nil, job.Problemf("unsupported-type", "A body with Content-Encoding is not accepted.")
	}
	if c.Request.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	b, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.Header("Connection", "close")
		return nil, job.Problemf("invalid-request", "The body did not arrive within %s.", bodyTimeout)
	case err != nil:
		return nil, job.Problemf("invalid-request", "The body could not be read.")
	}
	return b, nil
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

// isJSON reports whether the media type is JSON, or a format on top of it.
func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == jsonType || strings.HasSuffix(t, "+json"))
}

// needJSON fails unless the request's body says it is JSON. A web form cannot.
func needJSON(c *gin.Context) error {
	if isJSON(c.GetHeader("Content-Type")) {
		return nil
	}
	c.Header("Accept", jsonType)
	return job.Problemf("unsupported-type", "Send it with Content-Type: %s.", jsonType)
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// upstream is slow work behind HTTP that says what the test says, when the test
// says it. So the order of things is known, and no test has to time them.
type upstream struct {
	*httptest.Server
	t     *testing.T
	calls chan *call
}

// call is one request that the upstream was sent and has not finished.
type call struct {
	*http.Request
	Input []byte
	w     http.ResponseWriter
	done  chan struct{}
}

// newUpstream runs an upstream until the test ends.
func newUpstream(t *testing.T) *upstream {
	u := &upstream{t: t, calls: make(chan *call, 1000)}
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.CloseClientConnections)
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	input, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := &call{r, input, w, make(chan struct{})}
	u.calls <- c
	select {
	case <-c.done:
	case <-r.Context().Done():
	}
}

// next returns the next request.
func (u *upstream) next() *call {
	u.t.Helper()
	select {
	case c := <-u.calls:
		return c
	case <-time.After(patience):
		require.Fail(u.t, "the upstream is not asked")
		return nil
	}
}

// asked returns how many requests came that next has not returned.
func (u *upstream) asked() int { return len(u.calls) }

// answer begins the response.
func (c *call) answer(status int, mediaType string) {
	c.w.Header().Set("Content-Type", mediaType)
	c.w.WriteHeader(status)
	c.say("")
}

// say sends the text at once.
func (c *call) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.w, format, args...)
	_ = http.NewResponseController(c.w).Flush()
}

// end finishes the response.
func (c *call) end() { close(c.done) }

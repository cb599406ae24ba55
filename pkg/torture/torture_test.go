package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A millstream that does not even begin is told in words.
func TestRunWithoutServer(t *testing.T) {
	ends, err := exec.LookPath("false")
	require.NoError(t, err)
	for _, binary := range []string{"/is/not/there", ends} {
		v, err := Run(t.Context(), Options{Binary: binary, Dir: t.TempDir()})
		require.ErrorContains(t, err, binary)
		require.Nil(t, v)
	}
}

// counter is a server whose jobs are over at once. It counts them, and stops the
// submitters when several have submitted the same one.
type counter struct {
	mu      sync.Mutex
	jobs    int
	ofKey   map[string]string
	answers map[string]int // to submits, of each job
	raced   func()
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case r.URL.Path == "/v1/jobs":
		_ = json.NewEncoder(w).Encode(object{"id": c.submit(r.Header.Get("Idempotency-Key"))})
	default:
		_, _ = io.WriteString(w, `{"status":"canceled"}`)
	}
}

func (c *counter) submit(key string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.ofKey[key]
	if key == "" || id == "" {
		c.jobs++
		id = fmt.Sprint("job", c.jobs)
		c.ofKey[key] = id
	}
	if c.answers[id]++; c.answers[id] == racers {
		c.raced()
	}
	return id
}

// What is told while it goes on counts jobs, as the verdict does, and not answers.
func TestProgressCountsJobs(t *testing.T) {
	c := &counter{ofKey: map[string]string{}, answers: map[string]int{}}
	server := httptest.NewServer(c)
	defer server.Close()
	line, err := newProxy(server.Listener.Addr().String())
	require.NoError(t, err)
	defer line.close()
	s := &session{Options: Options{Seed: 1, Dir: t.TempDir()}, line: line, over: make(chan struct{}), accepts: make(chan struct{}, 1)}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	c.raced = sync.OnceFunc(func() { close(s.over) })
	newSubmitter(s, 0).run()
	s.say("settling")
	require.EqualValues(t, c.jobs, s.progress().Accepted)
}

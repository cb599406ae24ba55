package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
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
	answers map[string]int  // to submits, of each job
	gone    map[string]bool // erased
	raced   func()
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, path, _ := strings.Cut(r.URL.Path, "/jobs")
	id, what, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch key := r.Header.Get("Idempotency-Key"); {
	case c.gone[id], c.gone[c.ofKey[key]]:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodDelete:
		c.gone[id] = true
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNoContent)
	case id == "", what == "retry":
		_ = json.NewEncoder(w).Encode(object{"id": c.submit(key)})
	default:
		_, _ = io.WriteString(w, `{"status":"canceled"}`)
	}
}

func (c *counter) submit(key string) string {
	id := c.ofKey[key]
	if key == "" || id == "" {
		c.jobs++
		id = fmt.Sprint("job", c.jobs)
		if key != "" {
			c.ofKey[key] = id
		}
	}
	if c.answers[id]++; c.answers[id] == racers {
		c.raced()
	}
	return id
}

// What is told while it goes on counts jobs, as the verdict does, and not answers.
func TestProgressCountsJobs(t *testing.T) {
	c := &counter{ofKey: map[string]string{}, answers: map[string]int{}, gone: map[string]bool{}}
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

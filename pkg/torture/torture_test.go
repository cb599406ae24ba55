package torture

import (
	"bytes"
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
	batches int
	ofKey   map[string]string
	ofBatch map[string][]object // answers, by keys
	answers map[string]int      // to submits, of each job
	gone    map[string]bool     // erased
	raced   func()
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, path, _ := strings.Cut(r.URL.Path, "/jobs")
	id, what, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	body, _ := io.ReadAll(r.Body)
	switch key := r.Header.Get("Idempotency-Key"); {
	case path == "" && bytes.Count(body, []byte(`"kind"`)) > 1:
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(object{"batch": "b", "jobs": c.submitAll(key, body)})
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

// submitAll takes a batch in either form.
func (c *counter) submitAll(key string, body []byte) (items []object) {
	if items = c.ofBatch[key]; key != "" && items != nil {
		return items
	}
	var orders []struct{ Kind string }
	if json.Unmarshal(body, &orders) != nil {
		for in := json.NewDecoder(bytes.NewReader(body)); in.More(); {
			orders = append(orders, struct{ Kind string }{})
			if err := in.Decode(&orders[len(orders)-1]); err != nil {
				panic(err)
			}
		}
	}
	for _, o := range orders {
		if o.Kind == kindNone {
			items = append(items, object{"status": http.StatusNotFound})
			continue
		}
		items = append(items, object{"id": c.submit(""), "batch": "b", "status": "queued"})
	}
	c.ofBatch[key] = items
	c.batches++
	return items
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
	c := &counter{ofKey: map[string]string{}, ofBatch: map[string][]object{}, answers: map[string]int{}, gone: map[string]bool{}}
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
	require.Positive(t, c.batches)
}

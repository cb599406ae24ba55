package powercut

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	submitters = 20
	readers    = 4
)

// accepted is a job of which a client has its 202.
type accepted struct{ id, key, body string }

// shown is an event that a reader has got whole.
type shown struct{ job, id, text string }

// told is what clients were told.
type told struct {
	jobs   []accepted
	events []shown
}

// ledger is where clients write down what they were told, as soon as they were.
type ledger struct {
	mu sync.Mutex
	told
}

func (l *ledger) accept(j accepted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs = append(l.jobs, j)
}

func (l *ledger) show(e shown) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// upToNow returns what has been told so far.
func (l *ledger) upToNow() told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

// load is clients at work.
type load struct {
	ledger
	client  client
	stopAll context.CancelFunc
	clients sync.WaitGroup
}

// newLoad sets clients to work.
func newLoad(ctx context.Context, c client, r *rand.Rand) *load {
	l := &load{client: c}
	ctx, l.stopAll = context.WithCancel(ctx)
	for range submitters {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		l.clients.Go(func() { l.submit(ctx, own) })
	}
	for range readers {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		l.clients.Go(func() { l.read(ctx, own) })
	}
	return l
}

func (l *load) stop() {
	l.stopAll()
	l.clients.Wait()
}

// submit submits, one job after another.
func (l *load) submit(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		j := accepted{body: request(r, "normal")}
		if r.IntN(3) == 0 {
			j.key = fmt.Sprintf("key-%x", r.Uint64())
		}
		var err error
		if j.id, _, err = l.client.submit(ctx, j.key, j.body); err == nil {
			l.accept(j)
		} else {
			pause(ctx) // the queue is full
		}
	}
}

// read submits jobs that go before all others, and reads them to their end.
func (l *load) read(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		j := accepted{body: request(r, "high")}
		var err error
		if j.id, _, err = l.client.submit(ctx, "", j.body); err != nil {
			pause(ctx)
			continue
		}
		l.accept(j)
		_ = l.client.follow(ctx, j.id, func(id, text string) { l.show(shown{j.id, id, text}) })
	}
}

// request is a submit whose input is of any size: mostly small, now and then one that
// fills blocks of the store.
func request(r *rand.Rand, priority string) string {
	size := 100 + r.IntN(3000)
	if r.IntN(20) == 0 {
		size = 20_000 + r.IntN(40_000)
	}
	return fmt.Sprintf(`{"kind":"talk","priority":%q,"input":%q}`, priority, noise(r, size))
}

func noise(r *rand.Rand, size int) string {
	b := make([]byte, size*3/4)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

// pause is how long a client waits that was refused.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// newUpstream is what the jobs do: they say a few events, and end.
func newUpstream(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		own := rand.New(rand.NewPCG(rand.Uint64(), 0))
		for n := range 1 + own.IntN(8) {
			_, _ = fmt.Fprintf(w, "event: token\ndata: {\"n\":%d,\"text\":%q}\n\n", n, noise(own, own.IntN(600)))
			_ = http.NewResponseController(w).Flush()
			if own.IntN(4) == 0 {
				pause(r.Context())
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// client speaks to the server at base, as far as is needed here.
type client struct{ base string }

func (c client) do(ctx context.Context, method, path, body string, headers ...string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		cancel()
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := web.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = answer{resp.Body, cancel}
	return resp, nil
}

// answer is a body that ends its request when it is closed.
type answer struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (a answer) Close() error { defer a.cancel(); return a.ReadCloser.Close() }

// web keeps as many connections as there are clients.
var web = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: submitters + readers}}

// submit returns the job's id, and whether the key had it before.
func (c client) submit(ctx context.Context, key, body string) (id string, replayed bool, err error) {
	headers := []string{"Content-Type", "application/json"}
	if key != "" {
		headers = append(headers, "Idempotency-Key", key)
	}
	resp, err := c.do(ctx, "POST", "/v1/jobs", body, headers...)
	if err != nil {
		return "", false, err
	}
	var j struct{ ID string }
	err = decode(resp, &j)
	return j.ID, resp.Header.Get("Idempotency-Replayed") == "true", err
}

// get decodes what is at path.
func (c client) get(ctx context.Context, path string, v any) error {
	resp, err := c.do(ctx, "GET", path, "", "Accept", "application/json")
	if err != nil {
		return err
	}
	return decode(resp, v)
}

func decode(resp *http.Response, v any) error {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return json.Unmarshal(body, v)
}

// follow reads a job's events as they come. An event counts when its blank line is there.
func (c client) follow(ctx context.Context, job string, each func(id, text string)) error {
	resp, err := c.do(ctx, "GET", "/v1/jobs/"+job+"/events", "", "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	var id, kind, text string
	for in := bufio.NewReader(resp.Body); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			text = value
		case "":
			if text != "" && !strings.HasPrefix(kind, "stream.") { // those are no job's
				each(id, text)
			}
			id, kind, text = "", "", ""
		}
	}
}

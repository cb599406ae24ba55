package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	// answerTime is how long a client waits for the answer to a request that is no
	// stream: longer than the server lets its store take, and than it is ever stopped.
	answerTime = 30 * time.Second
	// againTime is how long it waits, about, before it tries again.
	againTime = 30 * time.Millisecond
)

// client is somebody who keeps a diary.
type client struct {
	*session
	diary *diary
	rand  *rand.Rand
	http  *http.Client
}

// client returns the nth client of its sort. What it does depends on the seed.
func (s *session) client(sort string, n int, stream uint64) *client {
	return &client{
		session: s, diary: s.diaryOf(sort, n), rand: rand.New(rand.NewPCG(s.Seed, stream<<32|uint64(n))),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
}

func (c *client) close() {
	c.http.CloseIdleConnections()
	c.diary.close()
}

// chance is true in so many of a hundred cases.
func (c *client) chance(percent int) bool { return c.rand.IntN(100) < percent }

// again waits before another try; false: there is none.
func (c *client) again() bool {
	return pause(c.ctx, againTime/2+rand.N(againTime)) // not of the seed: how often it is called depends on the time
}

// send sends a request; headers are names and values.
func (c *client) send(ctx context.Context, method, path string, body []byte, headers ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.line.base()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return c.http.Do(req)
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   []byte
	sent   time.Time
}

// into decodes the answer, which must be JSON.
func (a *answer) into(v any) error { return json.Unmarshal(a.body, v) }

// ask sends a request and reads its answer, all of it. A body is sent as JSON.
func (c *client) ask(method, path string, body any, headers ...string) (*answer, error) {
	if body == nil {
		return c.askText(method, path, nil, headers...)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.askText(method, path, text, append(headers, "Content-Type", "application/json")...)
}

// askText is ask with a body as it is.
func (c *client) askText(method, path string, text []byte, headers ...string) (*answer, error) {
	ctx, cancel := context.WithTimeout(c.ctx, answerTime)
	defer cancel()
	sent := time.Now()
	resp, err := c.send(ctx, method, path, text, headers...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return &answer{resp.StatusCode, resp.Header, b, sent}, err
}

// mayRefuse reports whether the server may answer so when it cannot do what it was
// asked: it is stopping, or full, or in the middle of it.
func mayRefuse(status int) bool {
	switch status {
	case http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return true
	}
	return false
}

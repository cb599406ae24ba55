// Package client submits jobs to a Millstream and watches them to their end. A
// watch resumes by itself: whatever happens to the connection, each event comes
// exactly once and in order.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Client talks to one Millstream. It is safe for concurrent use.
type Client struct {
	base     *url.URL
	key      string
	http     *http.Client
	slow     *http.Client // http, without an end to waiting for an answer
	silence  time.Duration
	patience time.Duration
	lost     func(job.ID, error)
	found    func(job.ID)
	answered *atomic.Bool // there is a server: what fails now may heal
}

// Options change how a Client works; nil is fine.
type Options struct {
	// Key is sent with every request: the server's key, or a read token.
	Key string
	// HTTP sends the requests. It must not have a Timeout, which would cut every
	// stream at that age; nor should its transport have a ResponseHeaderTimeout, if jobs
	// with large inputs are retried.
	HTTP *http.Client
	// Silence is how long a stream may say nothing, not even a heartbeat, before
	// it is given up and resumed. Default: 45 s, three heartbeats.
	Silence time.Duration
	// Patience is how long a watch or a download tries to get back to a server that
	// it has lost before it ends with the error. Default: 5 min, longer than a restart takes.
	Patience time.Duration
	// Lost is called when a watch of the job has lost its server and begins to try
	// to get back, with what keeps it away; nil is fine. It is called by each watch, so perhaps at the same time.
	Lost func(job.ID, error)
	// Found is called when such a watch has its server again, whether or not there is
	// news of the job; nil is fine.
	Found func(job.ID)
}

func (o *Options) key() string {
	if o == nil {
		return ""
	}
	return o.Key
}

// http returns what sends the requests, and what sends those that take as long as they take.
func (o *Options) http() (usual, slow *http.Client) {
	if o == nil || o.HTTP == nil {
		return &http.Client{Transport: transport}, &http.Client{Transport: slowTransport}
	}
	return o.HTTP, o.HTTP
}

func (o *Options) silence() time.Duration {
	if o == nil || o.Silence <= 0 {
		return 45 * time.Second
	}
	return o.Silence
}

func (o *Options) patience() time.Duration {
	if o == nil || o.Patience <= 0 {
		return 5 * time.Minute
	}
	return o.Patience
}

func (o *Options) lost() func(job.ID, error) {
	if o == nil || o.Lost == nil {
		return func(job.ID, error) {}
	}
	return o.Lost
}

func (o *Options) found() func(job.ID) {
	if o == nil || o.Found == nil {
		return func(job.ID) {}
	}
	return o.Found
}

// transport is the standard one with an end to waiting for an answer: twice as
// long as the longest that the server itself waits.
var transport = func() *http.Transport {
	t := standard(http.DefaultTransport)
	t.ResponseHeaderTimeout = time.Minute
	return t
}()

// slowTransport is for what the server works on before it answers: a retry, for which it
// copies the input. A server that has gone is noticed by TCP.
var slowTransport = standard(http.DefaultTransport)

// standard returns a copy of net/http's own transport. If the program has put another
// thing in its place, which cannot be told what a client needs, it is one like it.
func standard(own http.RoundTripper) *http.Transport {
	if t, ok := own.(*http.Transport); ok {
		return t.Clone()
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

// New returns a client of the Millstream at baseURL, such as
// http://127.0.0.1:8080. It does not connect yet.
func New(baseURL string, opts *Options) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("address of the server: not an http:// or https:// URL: %w", err)
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("address of the server: %q is not an http:// or https:// URL", baseURL)
	}
	usual, slow := opts.http()
	return &Client{
		base: base, key: opts.key(), http: usual, slow: slow, silence: opts.silence(), patience: opts.patience(),
		lost: opts.lost(), found: opts.found(), answered: new(atomic.Bool),
	}, nil
}

// unhurried returns the client as one that waits for an answer for as long as its caller does.
func (c *Client) unhurried() *Client {
	slow := *c
	slow.http = c.slow
	return &slow
}

// Live returns nil if the server runs.
func (c *Client) Live(ctx context.Context) error { return c.probe(ctx, "livez") }

// Ready returns nil if the server takes jobs.
func (c *Client) Ready(ctx context.Context) error { return c.probe(ctx, "readyz") }

func (c *Client) probe(ctx context.Context, name string) error {
	req, err := c.request(ctx, http.MethodGet, nil, name)
	if err != nil {
		return err
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// request returns a request for a path below the base URL.
func (c *Client) request(ctx context.Context, method string, body io.Reader, path ...string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), body)
	if err == nil && c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return req, err
}

// send returns an answer that is a success; any other is a *job.Problem.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	c.answered.Store(true)
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, problemOf(resp)
	}
	return resp, nil
}

// maxObject bounds what is read of an answer that should be one small object: a
// job with its inline result, or a problem.
const maxObject = 4 << 20

// object sends req and reads the JSON object it is answered with.
func (c *Client) object(req *http.Request, v any) error { return c.objectOf(req, v, maxObject) }

// objectOf is object for an answer of at most so many bytes.
func (c *Client) objectOf(req *http.Request, v any, most int64) error {
	req.Header.Set("Accept", "application/json")
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(v); err != nil {
		return fmt.Errorf("answer of %s: %w", req.URL.Redacted(), err)
	}
	return nil
}

// problemOf reads the problem that resp is. An answer that is none, from a proxy
// for instance, becomes one.
func problemOf(resp *http.Response) *job.Problem {
	p := &job.Problem{Type: "about:blank", Title: http.StatusText(resp.StatusCode)}
	if mediaType(resp) == "application/problem+json" {
		var read job.Problem
		if json.NewDecoder(io.LimitReader(resp.Body, maxObject)).Decode(&read) == nil {
			p = &read
		}
	} else {
		p.Detail = fmt.Sprintf("%s answered %s", resp.Request.URL.Host, resp.Status)
	}
	p.Status = resp.StatusCode
	p.RetryAfter = retryAfter(resp.Header)
	return p
}

func mediaType(resp *http.Response) string {
	t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // what does not parse is no type we know
	return t
}

// retryAfter reads the header of that name (RFC 9110 10.2.3); 0: not said. More seconds
// than a time.Duration can tell, or an integer, are as many as it can.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	n, err := strconv.ParseUint(v, 10, 64) // the largest, if there are too many digits
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(n, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// Passing reports whether a request that failed with err may succeed later. The
// server's own word counts; silence counts only once there was an answer, so
// that a mistyped address is told at once.
func (c *Client) Passing(err error) bool {
	var p *job.Problem
	if !errors.As(err, &p) {
		return c.answered.Load()
	}
	switch p.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return p.Status >= 500 && !p.Is(job.ErrDamaged)
}

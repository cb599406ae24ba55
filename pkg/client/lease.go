package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// LeaseOptions say which work a pull worker takes.
type LeaseOptions struct {
	Kinds  []string
	Max    int           // attempts at once; 0 is one
	Worker string        // what others see as the worker
	Wait   time.Duration // for the first; the server has a limit of its own
}

// Lease is an attempt at a job that this program works on.
type Lease struct {
	Job        Job
	Input      []byte          // of JSON the same value, not the same bytes: those are OpenInput's
	Upload     *job.Upload     // of an input that is too large to come along: OpenInput reads it; else nil
	InputType  string          // media type of the input
	Checkpoint json.RawMessage // the last one of the attempts before; nil: there is none
	Life       time.Duration   // how long the worker may say nothing
	Timeout    time.Duration   // from now on; then the attempt is over

	token string
}

// Standing is how a lease stands once what was said is stored.
type Standing struct {
	Cancel bool // somebody asked the job to stop: say job.failed
}

// leased is a lease as the server tells it.
type leased struct {
	Lease      string
	ExpiresAt  time.Time `json:"expires_at"`
	TimeoutAt  time.Time `json:"timeout_at"`
	Job        json.RawMessage
	Checkpoint json.RawMessage
}

// Lease takes work; it returns nothing if there is none within the wait.
func (c *Client) Lease(ctx context.Context, o *LeaseOptions) ([]*Lease, error) {
	req, err := c.post(ctx, map[string]any{"kinds": o.Kinds, "max": max(o.Max, 1), "worker": o.Worker}, "v1", "leases")
	if err != nil {
		return nil, err
	}
	if o.Wait > 0 {
		req.Header.Set("Prefer", "wait="+seconds(o.Wait))
	}
	resp, err := c.send(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	var got struct{ Leases []leased }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", req.URL.Redacted(), err)
	}
	var leases []*Lease
	for _, g := range got.Leases {
		l, err := g.lease(serverTime(resp))
		if err != nil {
			return nil, fmt.Errorf("answer of %s: %w", req.URL.Redacted(), err)
		}
		leases = append(leases, l)
	}
	return leases, nil
}

// serverTime returns the time by the clock of the server, which may be another than ours.
func serverTime(resp *http.Response) time.Time {
	if t, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return t
	}
	return time.Now()
}

// lease returns the lease, as of now by the clock of the server.
func (g *leased) lease(now time.Time) (*Lease, error) {
	l := &Lease{token: g.Lease, Life: g.ExpiresAt.Sub(now), Timeout: g.TimeoutAt.Sub(now)}
	if string(g.Checkpoint) != "null" {
		l.Checkpoint = g.Checkpoint
	}
	var with struct {
		Input json.RawMessage
		Type  string `json:"input_type"`
	}
	if err := json.Unmarshal(g.Job, &l.Job); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(g.Job, &with); err != nil {
		return nil, err
	}
	l.InputType = with.Type
	return l, l.setInput(with.Input)
}

// setInput takes the input as the server tells it: JSON as it is, text as a string, other
// bytes in base64, and of a large one where it is.
func (l *Lease) setInput(raw json.RawMessage) (err error) {
	if job.IsJSON(l.InputType) {
		l.Input = raw
		return nil
	}
	if len(raw) > 0 && raw[0] == '"' {
		var text string
		err := json.Unmarshal(raw, &text)
		l.Input = []byte(text)
		return err
	}
	var b struct {
		Base64, Href, SHA256 string
		Size                 int64
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	if b.Href != "" {
		l.Upload = &job.Upload{Size: b.Size, SHA256: b.SHA256}
		return nil
	}
	l.Input, err = base64.StdEncoding.DecodeString(b.Base64)
	return err
}

// OpenInput opens the input at its beginning, byte for byte as it was submitted. JSON, and
// what did not come along, are asked of the server, and not held in memory. A connection
// that is cut is followed by another, as Result's is.
func (c *Client) OpenInput(ctx context.Context, l *Lease) (io.ReadCloser, error) {
	if l.Upload == nil && !job.IsJSON(l.InputType) {
		return io.NopCloser(bytes.NewReader(l.Input)), nil
	}
	d := c.download(ctx, func(ctx context.Context) (*http.Request, error) {
		return c.request(ctx, http.MethodGet, nil, "v1", "leases", l.token, "input")
	})
	if l.Upload != nil {
		d.size, d.etag = l.Upload.Size, `"`+l.Upload.SHA256+`"`
		return d, nil
	}
	resp, err := d.ask()
	if err != nil {
		return nil, err
	}
	d.size, d.etag = resp.ContentLength, resp.Header.Get("ETag")
	return d, nil
}

// Report says what becomes of the attempt; nothing at all is a sign of life. All of it
// is stored once Report has returned nil, or none of it: job.ErrLeaseLost says that
// somebody else has the job by now, or nobody.
func (c *Client) Report(ctx context.Context, l *Lease, events ...job.Said) (Standing, error) {
	if events == nil {
		events = []job.Said{}
	}
	var s Standing
	req, err := c.post(ctx, events, "v1", "leases", l.token, "events")
	if err == nil {
		err = c.object(req, &s)
	}
	return s, err
}

// post returns a request whose body is JSON.
func (c *Client) post(ctx context.Context, v any, path ...string) (*http.Request, error) {
	body, err := job.JSON(v)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, http.MethodPost, bytes.NewReader(body), path...)
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, err
}

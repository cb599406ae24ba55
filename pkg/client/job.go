package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Job is a job as the server shows it. A time that is zero has not come.
type Job struct {
	ID            job.ID     `json:"id"`
	Kind          string     `json:"kind"`
	Status        job.Status `json:"status"`
	Attempt       int        `json:"attempt"`
	MaxAttempts   int        `json:"max_attempts"`
	Priority      string     `json:"priority"`
	Key           string     `json:"key"`
	Tags          []string   `json:"tags"`
	Batch         string     `json:"batch"`          // it was submitted with; empty: it was submitted alone
	QueuePosition *int       `json:"queue_position"` // jobs ahead of it; nil: it does not wait

	CreatedAt         time.Time `json:"created_at"`
	RunAt             time.Time `json:"run_at"`
	StartedAt         time.Time `json:"started_at"`
	FinishedAt        time.Time `json:"finished_at"`
	ExpiresAt         time.Time `json:"expires_at"`
	CancelRequestedAt time.Time `json:"cancel_requested_at"`

	Progress *Progress       `json:"progress"`
	Result   json.RawMessage `json:"result"` // JSON, a text as a string, or a reference; Client.Result has the bytes
	Error    *job.Problem    `json:"error"`  // of one that failed
	Cursor   string          `json:"cursor"` // id of its last event
	Links    Links           `json:"links"`
	Token    string          `json:"token"` // reads this job; only on the answer to a submit

	JSON json.RawMessage `json:"-"` // the object as it was received
}

// Progress is how far a job's attempt is.
type Progress struct {
	Progress float64  `json:"progress"`
	Total    *float64 `json:"total"` // nil: not known
	Message  string   `json:"message"`
}

// Links are the addresses of what belongs to a job.
type Links struct {
	Self   string `json:"self"`
	Events string `json:"events"`
	Result string `json:"result"`
	Cancel string `json:"cancel"`
}

// UnmarshalJSON reads the object and keeps it in j.JSON.
func (j *Job) UnmarshalJSON(b []byte) error {
	type plain Job
	if err := json.Unmarshal(b, (*plain)(j)); err != nil {
		return err
	}
	j.JSON = bytes.Clone(b)
	return nil
}

// SubmitOptions say how a job is to be run; zero fields leave it to the kind.
type SubmitOptions struct {
	ContentType  string // of the input; default application/octet-stream
	Tags         []string
	Priority     string        // low, normal or high
	Timeout      time.Duration // of an attempt
	MaxAttempts  int
	Retention    time.Duration // of the job, after its end
	StartTimeout time.Duration // for the first attempt to begin
	Deadline     time.Time     // for the end
	RunAt        time.Time     // not before; at most 30 days ahead
	Delay        time.Duration // the same, from now on; not both
	Wait         time.Duration // answer with the finished job if it ends in this time; the server has a limit of its own

	// CancelOnDisconnect asks for the job's end ten seconds after the connection that it was
	// submitted on has gone without an answer: for SubmitAndWatch, or with Wait.
	CancelOnDisconnect bool

	// Webhook is where the job's end is sent: an https:// URL, of a server that has a secret for
	// webhooks. A webhook that is sent other events is for the JSON form of a submit.
	Webhook string

	// Key makes the submit one that can be repeated: for 24 hours the same key, with the
	// same input and options, is the same job (Idempotency-Key).
	Key string
}

// Submit submits input, nil for none, as a job of the kind. The job is stored
// once Submit has returned. If its answer was lost, a submit with a Key whose input is a
// bytes.Reader, bytes.Buffer or strings.Reader is sent again, for Options.Patience; of
// any other nobody knows whether there is a job.
func (c *Client) Submit(ctx context.Context, kind string, input io.Reader, o *SubmitOptions) (*Job, error) {
	if o == nil {
		o = &SubmitOptions{}
	}
	req, err := c.raw(ctx, kind, input, o)
	if err != nil {
		return nil, err
	}
	return c.submit(req, o.Wait, o.Key)
}

// raw returns a submit whose body is the input itself.
func (c *Client) raw(ctx context.Context, kind string, input io.Reader, o *SubmitOptions) (*http.Request, error) {
	if !job.ValidKind(kind) {
		return nil, job.Problemf("not-found", "%q cannot be a kind", kind)
	}
	req, err := c.request(ctx, http.MethodPost, input, "v1", "kinds", kind, "jobs")
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = o.query().Encode()
	req.Header.Set("Content-Type", o.contentType())
	if o.Webhook != "" { // not in the address: who has it may send there
		req.Header.Set("Millstream-Webhook", o.Webhook)
	}
	return req, nil
}

// answerLost reports whether err leaves open whether the request was served.
func answerLost(err error) bool {
	var refused *job.Problem
	var dial *net.OpError
	return err != nil && !errors.As(err, &refused) && !errors.Is(err, context.Canceled) && !(errors.As(err, &dial) && dial.Op == "dial")
}

// again sends a request whose answer was lost until there is one.
func (c *Client) again(req *http.Request, err error, send func(*http.Request) error) error {
	ctx := req.Context()
	for pace := newPace(c.patience); ; {
		wait, more := pace.next(err)
		if !more {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		next := req.Clone(ctx)
		body, berr := req.GetBody()
		if berr != nil {
			return berr
		}
		next.Body = body
		if err = send(next); err == nil {
			return nil
		}
		var p *job.Problem
		if ctx.Err() != nil || errors.As(err, &p) && !c.Passing(err) && p.Name() != "in-progress" {
			return err
		}
	}
}

func (o *SubmitOptions) contentType() string {
	if o.ContentType == "" {
		return "application/octet-stream"
	}
	return o.ContentType
}

func (o *SubmitOptions) query() url.Values {
	q := url.Values{}
	for _, tag := range o.Tags {
		q.Add("tag", tag)
	}
	if o.Priority != "" {
		q.Set("priority", o.Priority)
	}
	if o.Timeout > 0 {
		q.Set("timeout", o.Timeout.String())
	}
	if o.MaxAttempts > 0 {
		q.Set("max_attempts", strconv.Itoa(o.MaxAttempts))
	}
	if o.Retention > 0 {
		q.Set("retention", o.Retention.String())
	}
	if !o.RunAt.IsZero() {
		q.Set("run_at", o.RunAt.UTC().Format(time.RFC3339Nano))
	}
	if o.Delay > 0 {
		q.Set("delay", o.Delay.String())
	}
	if o.StartTimeout > 0 {
		q.Set("start_timeout", o.StartTimeout.String())
	}
	if !o.Deadline.IsZero() {
		q.Set("deadline", o.Deadline.UTC().Format(time.RFC3339Nano))
	}
	if o.CancelOnDisconnect {
		q.Set("cancel_on_disconnect", "true")
	}
	return q
}

// seconds returns d in whole seconds, at least one.
func seconds(d time.Duration) string {
	return strconv.Itoa(int(math.Ceil(d.Seconds())))
}

// Job returns the job as it stands.
func (c *Client) Job(ctx context.Context, id job.ID) (*Job, error) {
	req, err := c.ofJob(ctx, http.MethodGet, nil, id)
	if err != nil {
		return nil, err
	}
	return c.job(req)
}

// Cancel asks for the job's end and returns the job as it stands then: canceled
// if it was queued, still running if it must be stopped first, unchanged if it
// was over. The reason may be empty.
func (c *Client) Cancel(ctx context.Context, id job.ID, reason string) (*Job, error) {
	body := io.Reader(http.NoBody)
	if reason != "" {
		body = bytes.NewReader(job.MustData(map[string]string{"reason": reason}))
	}
	req, err := c.ofJob(ctx, http.MethodPost, body, id, "cancel")
	if err != nil {
		return nil, err
	}
	if reason != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.job(req)
}

// Erase removes the job, with its events and its result. One that runs is told to stop.
func (c *Client) Erase(ctx context.Context, id job.ID) error {
	req, err := c.ofJob(ctx, http.MethodDelete, http.NoBody, id)
	if err != nil {
		return err
	}
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// RetryOptions are what may be said with a retry; nil is fine.
type RetryOptions struct {
	Wait time.Duration // as that of SubmitOptions
	Key  string        // as that of SubmitOptions
}

// Retry submits the work of a job that is over as a new job: the same input and options,
// begun at once. A deadline is as far away as that of the first job was. A large input is
// copied before there is an answer, however long that takes: ctx is the only limit.
func (c *Client) Retry(ctx context.Context, id job.ID, o *RetryOptions) (*Job, error) {
	if o == nil {
		o = &RetryOptions{}
	}
	req, err := c.ofJob(ctx, http.MethodPost, http.NoBody, id, "retry")
	if err != nil {
		return nil, err
	}
	return c.unhurried().submit(req, o.Wait, o.Key)
}

// submit sends a request for a new job: if it has a key, until there is an answer.
func (c *Client) submit(req *http.Request, wait time.Duration, key string) (j *Job, err error) {
	if wait > 0 {
		req.Header.Set("Prefer", "wait="+seconds(wait))
	}
	err = c.once(req, key, func(req *http.Request) (err error) { j, err = c.job(req); return err })
	return j, err
}

// once has a submit sent, by send, with its key if it has one; then it is sent again if its
// answer was lost.
func (c *Client) once(req *http.Request, key string, send func(*http.Request) error) error {
	if key != "" {
		withKey(req, key)
	}
	err := send(req)
	if key != "" && req.GetBody != nil && answerLost(err) {
		return c.again(req, err, send)
	}
	return err
}

func withKey(req *http.Request, key string) { req.Header.Set("Idempotency-Key", strconv.Quote(key)) }

// ofJob returns a request for a job, or what belongs to it.
func (c *Client) ofJob(ctx context.Context, method string, body io.Reader, id job.ID, part ...string) (*http.Request, error) {
	if !job.ValidID(string(id)) {
		return nil, job.Problemf("not-found", "%q cannot be the id of a job", id)
	}
	return c.request(ctx, method, body, append([]string{"v1", "jobs", string(id)}, part...)...)
}

func (c *Client) job(req *http.Request) (*Job, error) {
	j := new(Job)
	if err := c.object(req, j); err != nil {
		return nil, err
	}
	if j.ID == "" {
		return nil, fmt.Errorf("answer of %s is not a job", req.URL.Redacted())
	}
	return j, nil
}

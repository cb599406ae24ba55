package handlers

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// representation is a job as clients see it. Every member is always there, null
// if it has no value, in this order.
type representation struct {
	ID            job.ID          `json:"id"`
	Kind          string          `json:"kind"`
	Status        job.Status      `json:"status"`
	Attempt       int             `json:"attempt"`
	MaxAttempts   int             `json:"max_attempts"`
	Priority      string          `json:"priority"`
	Key           *string         `json:"key"`
	Tags          []string        `json:"tags"`
	Batch         *string         `json:"batch"`
	QueuePosition *int            `json:"queue_position"`
	CreatedAt     job.Time        `json:"created_at"`
	RunAt         job.Time        `json:"run_at"`
	StartedAt     job.Time        `json:"started_at"`
	FinishedAt    job.Time        `json:"finished_at"`
	ExpiresAt     job.Time        `json:"expires_at"`
	CancelAt      job.Time        `json:"cancel_requested_at"`
	Progress      json.RawMessage `json:"progress"`
	Result        json.RawMessage `json:"result"`
	Error         json.RawMessage `json:"error"`
	Cursor        string          `json:"cursor"`
	Links         links           `json:"links"`
	Token         string          `json:"token,omitempty"` // on the answer to a submit only
}

type links struct {
	Self   string `json:"self"`
	Events string `json:"events"`
	Result string `json:"result"`
	Cancel string `json:"cancel"`
}

func linksOf(id job.ID) links {
	self := "/v1/jobs/" + string(id)
	return links{Self: self, Events: self + "/events", Result: job.ResultPath(id), Cancel: self + "/cancel"}
}

// represent returns the job as clients see it.
func (a *API) represent(j *job.Job) representation {
	end := outputOf(j)
	r := representation{
		ID: j.ID, Kind: j.Kind, Status: j.Status,
		Attempt: j.Attempt, MaxAttempts: j.MaxAttempts, Priority: j.Priority.String(), Tags: j.Tags,
		CreatedAt: job.Time(j.CreatedAt), RunAt: job.Time(j.RunAt), StartedAt: job.Time(j.StartedAt),
		FinishedAt: job.Time(j.FinishedAt), ExpiresAt: job.Time(j.ExpiresAt), CancelAt: job.Time(j.CancelRequestedAt),
		Progress: j.Progress, Result: end.Result, Error: end.Error,
		Cursor: j.Cursor.String(), Links: linksOf(j.ID),
	}
	if r.Tags == nil {
		r.Tags = []string{}
	}
	if key := j.Key; key != "" {
		r.Key = &key
	}
	if batch := j.Batch; batch != "" {
		r.Batch = &batch
	}
	if j.Status == job.StatusQueued {
		if ahead, ok := a.Queue.Position(j.ID); ok {
			r.QueuePosition = &ahead
		}
	}
	return r
}

// output is the data of a job's last event.
type output struct {
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
	Reason string          `json:"reason"`
}

func outputOf(j *job.Job) (o output) {
	if j.Status.Over() {
		_ = json.Unmarshal(j.Output, &o) // ours; what does not parse is shown as null
	}
	return o
}

// sendJob answers with the job, and the token that reads it if there is one.
func (a *API) sendJob(c *gin.Context, status int, j *job.Job, token string) error {
	r := a.represent(j)
	r.Token = token
	b, err := job.JSON(r)
	if err != nil {
		return err
	}
	private(c)
	return send(c, status, jsonType, b)
}

// private marks an answer that only its reader may keep, and must ask about again.
func private(c *gin.Context) {
	c.Header("Cache-Control", "private, no-cache")
	c.Writer.Header().Add("Vary", "Accept, Authorization")
}

// etag returns a strong entity tag of a representation.
func etag(b []byte) string {
	sum := sha256.Sum256(b)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

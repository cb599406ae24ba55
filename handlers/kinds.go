package handlers

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// kindView is a kind as clients see it. Its durations are texts that an option of
// a submit may be.
type kindView struct {
	Name        string          `json:"name"`
	Worker      string          `json:"worker"`
	Description string          `json:"description"`
	Input       json.RawMessage `json:"input"`  // JSON Schema; null: anything
	Result      json.RawMessage `json:"result"` // JSON Schema; null: not said
	Limits      kindLimits      `json:"limits"`
	Queue       kindQueue       `json:"queue"`
	Links       kindLinks       `json:"links"`
}

type kindLimits struct {
	Timeout     string `json:"timeout"`
	MaxAttempts int    `json:"max_attempts"`
	Retention   string `json:"retention"`
	Concurrency int    `json:"concurrency"`
	Queue       int    `json:"queue"`
	Input       int64  `json:"input"`
}

type kindQueue struct {
	Queued  int `json:"queued"`
	Running int `json:"running"`
}

type kindLinks struct {
	Self string `json:"self"`
	Jobs string `json:"jobs"`
}

// maxInput is the size of the largest input that the kind takes of any type.
func (a *API) maxInput(k *kind) int64 {
	if k.input != nil {
		return min(k.MaxInput, a.Body)
	}
	return k.MaxInput
}

func (a *API) viewKind(k *kind) kindView {
	v := kindView{
		Name: k.Name, Worker: k.Worker, Description: k.Description, Input: k.Input, Result: k.Result,
		Limits: kindLimits{
			Timeout: k.Timeout.String(), MaxAttempts: k.MaxAttempts, Retention: k.Retention.String(),
			Concurrency: k.Concurrency, Queue: k.QueueLimit, Input: a.maxInput(k),
		},
		Links: kindLinks{Self: "/v1/kinds/" + k.Name, Jobs: k.path()},
	}
	v.Queue.Queued, v.Queue.Running = a.Queue.Depth(k.Name)
	return v
}

// path is where the jobs of the kind are submitted; those of a route where it begins.
func (k *kind) path() string {
	if k.route != nil {
		return strings.TrimSuffix(k.route.Path, "*")
	}
	return "/v1/kinds/" + k.Name + "/jobs"
}

// listKinds answers GET /v1/kinds: what can be submitted.
func (a *API) listKinds(c *gin.Context) error {
	views := []kindView{}
	for _, name := range slices.Sorted(maps.Keys(a.kinds)) {
		views = append(views, a.viewKind(a.kinds[name]))
	}
	return sendKinds(c, map[string]any{"kinds": views})
}

// describeKind answers GET /v1/kinds/{kind}.
func (a *API) describeKind(c *gin.Context) error {
	k, err := a.kindNamed(c.Param("kind"))
	if err != nil {
		return err
	}
	return sendKinds(c, a.viewKind(k))
}

func sendKinds(c *gin.Context, v any) error {
	b, err := job.JSON(v)
	if err != nil {
		return err
	}
	private(c)
	return send(c, http.StatusOK, jsonType, b)
}

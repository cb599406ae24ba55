package handlers

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

const (
	maxCancelBody = 4 << 10 // of a body that holds one sentence
	maxReason     = 1 << 10
)

// cancel answers POST /v1/jobs/{id}/cancel: the job, canceled if it was queued,
// unchanged if it was over, and with 202 if its worker is being told.
func (a *API) cancel(c *gin.Context) error {
	reason, err := cancelReason(c)
	if err != nil {
		return err
	}
	j, err := a.lookup(c)
	if err != nil {
		return err
	}
	if j, err = a.stop(c.Request.Context(), j, reason); err != nil {
		return err
	}
	if j.Status.Over() {
		return a.sendJob(c, http.StatusOK, &j, "")
	}
	c.Header("Retry-After", pollAfter)
	return a.sendJob(c, http.StatusAccepted, &j, "")
}

// stop asks for the end of a job, unless it is over, and returns it as it is then.
func (a *API) stop(ctx context.Context, j job.Job, reason string) (job.Job, error) {
	if j.Status.Over() {
		return j, nil
	}
	j, err := a.Store.Cancel(ctx, j.ID, anonymous, reason)
	return j, orNoJob(err)
}

// cancelReason reads the body, which may be left out, or be empty: who sends it in
// chunks learns only at its end that nothing was in it.
func cancelReason(c *gin.Context) (string, error) {
	doc, err := body(c, maxCancelBody)
	if err != nil || len(doc) == 0 {
		return "", err
	}
	if err := needJSON(c); err != nil {
		return "", err
	}
	if err := checkJSON(doc); err != nil {
		return "", err
	}
	return parseReason(doc)
}

func parseReason(doc []byte) (reason string, err error) {
	var members map[string]json.RawMessage // a map, as the fields of a struct match any case
	if json.Unmarshal(doc, &members) != nil {
		return "", invalid("", "The body must be an object.")
	}
	for name, raw := range members {
		switch {
		case name != "reason":
			return "", invalid("/"+escape(name), "is not known")
		case json.Unmarshal(raw, &reason) != nil || len(reason) > maxReason:
			return "", invalid("/reason", "must be a string of at most %d bytes", maxReason)
		}
	}
	return reason, nil
}

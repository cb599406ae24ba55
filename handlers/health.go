package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// probeTimeout is what a load balancer waits for an answer, at the least.
const probeTimeout = 2 * time.Second

var healthy = []byte(`{"status":"ok"}`)

// livez answers GET /livez: the process answers, whatever state its store is in.
// To restart it would not mend that.
func (a *API) livez(c *gin.Context) error { return sendHealthy(c) }

// readyz answers GET /readyz: the store takes writes. One that has no room for new jobs
// still does: it can be read and gets emptier, and no other replica would have more.
func (a *API) readyz(c *gin.Context) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), probeTimeout)
	defer cancel()
	err := a.Store.Ready(ctx)
	if err == nil {
		return sendHealthy(c)
	}
	var p *job.Problem
	if !errors.As(err, &p) {
		return job.Problemf("storage-unavailable", "")
	}
	return err
}

func sendHealthy(c *gin.Context) error {
	c.Header("Cache-Control", "no-store")
	return send(c, http.StatusOK, jsonType, healthy)
}

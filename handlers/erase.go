package handlers

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// erase answers DELETE /v1/jobs/{id}: the job, its events and its result are gone. The
// work of one that runs is told to stop.
func (a *API) erase(c *gin.Context) error {
	j, err := a.lookup(c)
	if err != nil {
		return err
	}
	if err := a.Store.Erase(c.Request.Context(), j.ID, anonymous); err != nil {
		return orNoJob(err)
	}
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
	return nil
}

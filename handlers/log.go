package handlers

import (
	"cmp"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// logged writes one line for each request when it ends. It has no query string,
// where read tokens are, and no header. Its duration is a number in one unit, which a
// program can sort.
func (a *API) logged(c *gin.Context) {
	begin := time.Now()
	defer func() {
		a.Log.Info("request",
			zap.String("method", c.Request.Method),
			zap.String("route", cmp.Or(c.FullPath(), c.GetString(routePath))),
			zap.Int("status", c.Writer.Status()),
			zap.Float64("duration_ms", float64(time.Since(begin).Microseconds())/1e3),
			zap.Int("bytes", max(0, c.Writer.Size())),
			zap.String("remote", c.RemoteIP()), // of the connection: nobody is trusted to name another
		)
	}()
	c.Next()
}

// recovered turns a panic into a problem. One in an answer that has begun cuts
// the connection: the reader must not take what it got for the whole.
func (a *API) recovered(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		a.Log.Error("panic", zap.String("route", c.FullPath()), zap.String("job", c.Param("id")), zap.Any("panic", v), zap.Stack("stack"))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		c.Abort()
		if err := a.refuseReading(c, job.Problemf("internal", "")); err != nil {
			a.fail(c, err)
		}
	}()
	c.Next()
}

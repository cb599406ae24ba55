package handlers

import (
	"flag"
	"testing"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"
)

// update rewrites the golden files from what the code does; read the difference.
var update = flag.Bool("update", false, "rewrite testdata")

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	goleak.VerifyTestMain(m)
}

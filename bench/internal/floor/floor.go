// Package floor is what Millstream is measured against: the least that a server
// can do. Its submit stores nothing, its streams are those of a plain net/http
// handler.
package floor

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/pkg/job"
)

// Server is the role.
type Server struct {
	mu     sync.Mutex // protects the fields below
	topics []*topic
	byName map[string]*topic
}

// Run starts the server and answers with its URL.
func (s *Server) Run(_ struct{}, url *string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.byName = map[string]*topic{}
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.POST("/v1/jobs", submit)
	mux := http.NewServeMux()
	mux.Handle("/v1/", router)
	mux.HandleFunc("GET "+streams+"{topic}", s.stream)
	go func() { _ = http.Serve(ln, mux) }() // until the process ends
	*url = "http://" + ln.Addr().String()
	return nil
}

// submission and answer have the members that a submit to Millstream has.
type (
	submission struct {
		Kind  string `json:"kind"`
		Input any    `json:"input"`
	}
	answer struct {
		ID        job.ID    `json:"id"`
		Kind      string    `json:"kind"`
		Status    string    `json:"status"`
		CreatedAt time.Time `json:"created_at"`
	}
)

// submit decodes a job and answers as if it were stored.
func submit(c *gin.Context) {
	var s submission
	if err := c.ShouldBindJSON(&s); err != nil {
		c.AbortWithStatus(http.StatusBadRequest)
		return
	}
	c.JSON(http.StatusAccepted, answer{job.NewID(), s.Kind, "queued", time.Now()})
}

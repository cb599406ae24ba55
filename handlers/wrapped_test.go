package handlers

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stream asks for no more of the writer below than there is: a recorder of tests gets all of it,
// and behind one that cannot flush it ends, and does not panic.
func TestStreamBehindWrappers(t *testing.T) {
	s := newService(t)
	id := s.submit()
	s.begin(id)
	s.succeed(id, "1")
	h := s.handler()
	ask := func() *http.Request { return s.request("GET", pathOf(id, "/events"), "") }

	w := httptest.NewRecorder()
	h.ServeHTTP(w, ask())
	require.Equal(t, []string{"job.queued 1", "job.running 2", "job.succeeded 3"}, said(eventsOf(t, w.Body.String())))

	for _, wrapped := range []http.Handler{
		http.TimeoutHandler(h, time.Minute, ""),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(struct{ http.ResponseWriter }{w}, r) }),
	} {
		w = httptest.NewRecorder()
		wrapped.ServeHTTP(w, ask())
		require.Equal(t, 200, w.Code)
		require.Zero(t, s.logs.FilterMessage("panic").Len())
		require.Zero(t, s.api.open.Load())
	}
}

package handlers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestErase(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		a := s.do("DELETE", pathOf(id, ""), "")
		require.Equal(t, 204, a.StatusCode, a.body)
		require.Empty(t, a.body)
		for _, path := range []string{"", "/events", "/result"} {
			s.problem(s.get(pathOf(id, path)), 404, "not-found")
		}
		s.problem(s.do("DELETE", pathOf(id, ""), ""), 404, "not-found")
		s.problem(s.do("DELETE", "/v1/jobs/x", ""), 404, "not-found")
		id = s.submit()
		s.fail("Erase", job.ErrNotFound) // somebody else was faster
		s.problem(s.do("DELETE", pathOf(id, ""), ""), 404, "not-found")
		s.fail("Erase", job.Problemf("storage-unavailable", ""))
		s.problem(s.do("DELETE", pathOf(id, ""), ""), 503, "storage-unavailable")
	})
}

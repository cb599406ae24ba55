package handlers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// The new job has the input and the options of the first, and its own time.
func TestRetry(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		a := s.post("/v1/kinds/report/jobs?tag=a&priority=high&max_attempts=7&timeout=9m&retention=1h&start_timeout=1m&deadline=2h&delay=1h", `{"in":1}`,
			"Idempotency-Key", "first")
		require.Equal(t, 202, a.StatusCode, a.body)
		first := s.last
		id := idOf(t, a)
		for _, on := range []func(job.ID){s.begin, s.failJob} {
			p := s.problem(s.post(pathOf(id, "/retry"), ""), 409, "in-progress")
			require.Contains(t, p.Detail, "not over")
			on(id)
		}
		time.Sleep(30 * time.Minute)
		a = s.post(pathOf(id, "/retry"), "")
		require.Equal(t, 202, a.StatusCode, a.body)
		again := idOf(t, a)
		require.NotEqual(t, id, again)
		require.Equal(t, pathOf(again, ""), a.Header.Get("Location"))
		require.Contains(t, a.body, `"token":"`)
		want := *first
		want.RunAt, want.Deadline = time.Time{}, time.Now().Add(2*time.Hour).UTC()
		require.Equal(t, want, *s.last)
		require.Equal(t, job.StatusFailed, s.now(id).Status, "the first is as it was")
	})
}

// idOf returns the id of the job that an answer shows.
func idOf(t *testing.T, a answer) (id job.ID) {
	t.Helper()
	var j struct{ ID job.ID }
	a.into(t, &j)
	return j.ID
}

// It is a submit: it waits, it streams, and it may be repeated.
func TestRetryIsASubmit(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id, other := s.submit(), s.submit()
		for _, id := range []job.ID{id, other} {
			s.begin(id)
			s.succeed(id, "1")
		}
		key := []string{"Idempotency-Key", "k"}
		one := s.post(pathOf(id, "/retry"), "", key...)
		require.Equal(t, 202, one.StatusCode)
		two := s.post(pathOf(id, "/retry"), "", key...)
		require.Equal(t, idOf(t, one), idOf(t, two))
		require.Equal(t, "true", two.Header.Get("Idempotency-Replayed"))
		s.problem(s.post(pathOf(other, "/retry"), "", key...), 422, "idempotency-mismatch")
		s.begin(idOf(t, one))
		s.succeed(idOf(t, one), "2")
		stream := s.post(pathOf(id, "/retry"), "", "Idempotency-Key", "k", "Accept", sseType)
		require.Contains(t, stream.body, "event: job.succeeded")
	})
}

func TestRetryRefused(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := s.submit()
		s.begin(id)
		s.succeed(id, "1")
		s.problem(s.post(pathOf(id, "/retry"), `{"tags":["a"]}`), 400, "invalid-request")
		s.problem(s.post(pathOf(id, "/retry?tag=a"), ""), 400, "invalid-request")
		s.problem(s.post(pathOf(id, "/retry"), "", "Millstream-Priority", "high"), 400, "invalid-request")
		s.problem(s.post(pathOf(job.NewID(), "/retry"), ""), 404, "not-found")
		s.problem(s.post("/v1/jobs/x/retry", ""), 404, "not-found")
		s.fail("Request", job.ErrDamaged)
		s.problem(s.post(pathOf(id, "/retry"), ""), 500, "job-damaged")
		s.fail("Request", job.ErrNotFound)
		s.problem(s.post(pathOf(id, "/retry"), ""), 503, "storage-unavailable")
		s.fail("Request", nil)
		s.edit(id, func(j *job.Job) { j.Kind = "gone" })
		s.problem(s.post(pathOf(id, "/retry"), ""), 404, "not-found")
	})
}

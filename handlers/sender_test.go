package handlers

import (
	"bufio"
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// A job that shall not outlive its sender is canceled when the sender has been away for
// ten seconds, whichever way it waited; not sooner, and not if it was served to its end.
func TestCancelOnDisconnect(t *testing.T) {
	const body = `{"kind":"report","input":1,"cancel_on_disconnect":true}`
	for name, header := range map[string][]string{"stream": {"Accept", sseType}, "wait": {"Prefer", "wait=30"}} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				id := job.NewID()
				quit := s.sends(id, body, header...)
				s.begin(id)
				quit()
				synctest.Wait()
				time.Sleep(senderGrace - time.Millisecond)
				require.True(t, s.now(id).CancelRequestedAt.IsZero())
				time.Sleep(time.Millisecond)
				synctest.Wait()
				require.False(t, s.now(id).CancelRequestedAt.IsZero())
				require.Contains(t, s.why, "sender")
				require.Empty(t, s.api.senders.jobs)
			})
		})
	}
}

// One that goes before its job is stored leaves none behind either.
func TestSenderLeavesBeforeTheJobIsStored(t *testing.T) {
	for name, header := range map[string][]string{"stream": {"Accept", sseType}, "wait": {"Prefer", "wait=30"}, "key": {"Accept", sseType, "Idempotency-Key", "k"}} {
		t.Run(name, func(t *testing.T) {
			serve(t, func(t *testing.T, s *service) {
				s.stores = time.Second
				id := job.NewID()
				s.sends(id, `{"kind":"report","input":1,"cancel_on_disconnect":true}`, header...)()
				time.Sleep(s.stores + senderGrace)
				synctest.Wait()
				require.Equal(t, job.StatusCanceled, s.now(id).Status)
				require.Empty(t, s.api.senders.jobs)
			})
		})
	}
}

// Who comes back with the same key in time is there again; who got its answer may go.
func TestSenderComesBack(t *testing.T) {
	const body = `{"kind":"report","input":1,"cancel_on_disconnect":true}`
	serve(t, func(t *testing.T, s *service) {
		id := job.NewID()
		header := []string{"Accept", sseType, "Idempotency-Key", "k"}
		s.sends(id, body, header...)()
		synctest.Wait()
		time.Sleep(senderGrace / 2)
		quit := s.sends(id, body, header...)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, job.StatusQueued, s.now(id).Status)
		quit()
		s.begin(id)
		s.succeed(id, "1")
		synctest.Wait()
		time.Sleep(senderGrace)
		synctest.Wait()
		require.Equal(t, job.StatusSucceeded, s.now(id).Status)
		require.Empty(t, s.api.senders.jobs)

		a := s.post("/v1/jobs", body, "Prefer", "wait=1")
		require.Equal(t, 202, a.StatusCode)
		time.Sleep(time.Hour)
		require.Equal(t, job.StatusQueued, s.now(idOf(t, a)).Status, "the answer was given")
		require.Empty(t, s.api.senders.jobs)
	})
}

// A sender that has two connections is there as long as one of them is.
func TestSenderOnTwoConnections(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		id := job.NewID()
		const body = `{"kind":"report","input":1,"cancel_on_disconnect":true}`
		header := []string{"Accept", sseType, "Idempotency-Key", "k"}
		first, second := s.sends(id, body, header...), s.sends(id, body, header...)
		synctest.Wait()
		first()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.True(t, s.now(id).CancelRequestedAt.IsZero())
		second()
		time.Sleep(senderGrace)
		synctest.Wait()
		require.Equal(t, job.StatusCanceled, s.now(id).Status)
	})
}

func TestCancelOnDisconnectRefused(t *testing.T) {
	serve(t, func(t *testing.T, s *service) {
		a := s.post("/v1/jobs", `{"kind":"report","input":1,"cancel_on_disconnect":true}`)
		require.Contains(t, s.problem(a, 400, "invalid-request").Errors[0].Detail, "Prefer: wait")
		a = s.post("/v1/jobs", `{"kind":"report","input":1,"cancel_on_disconnect":"true"}`)
		require.Equal(t, "/cancel_on_disconnect", s.problem(a, 400, "invalid-request").Errors[0].Pointer)
		a = s.post("/v1/kinds/report/jobs?cancel_on_disconnect=yes", "1", "Prefer", "wait=1")
		require.Equal(t, "/cancel_on_disconnect", s.problem(a, 400, "invalid-request").Errors[0].Pointer)
		require.Empty(t, s.jobs)
		a = s.post("/v1/kinds/report/jobs?cancel_on_disconnect=false", "1")
		require.Equal(t, 202, a.StatusCode)
	})
}

// sends submits a job, which gets that id if it is new, and returns how the sender leaves.
func (s *service) sends(id job.ID, body string, header ...string) (quit func()) {
	s.t.Helper()
	s.id = id
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err := s.client.Do(s.request("POST", "/v1/jobs", body, append(header, "Content-Type", jsonType)...).WithContext(ctx))
		if err == nil {
			_, _ = bufio.NewReader(resp.Body).WriteTo(io.Discard)
			_ = resp.Body.Close()
		}
	}()
	synctest.Wait()
	return func() { cancel(); <-done }
}

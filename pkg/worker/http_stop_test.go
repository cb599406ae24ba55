package worker_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// A server that stops while a request is out hands the job back only if the
// upstream may be asked again: a payment would be made twice.
func TestHTTPStopOfTheServer(t *testing.T) {
	for _, begun := range []bool{false, true} { // the answer
		for _, idempotent := range []bool{false, true} {
			ctx, stop := context.WithCancelCause(t.Context())
			url, asked := upstream(t, func(w http.ResponseWriter, r *http.Request) {
				if begun {
					_, _ = w.Write([]byte("half of"))
					_ = http.NewResponseController(w).Flush()
				}
				stop(job.ErrDraining)
				<-r.Context().Done()
			})
			var s sink
			_, err := worker.Run(ctx, worker.HTTP{URL: url, Idempotent: idempotent}.Func(), s.attempt(""), worker.Options{})
			require.ErrorIs(t, err, job.ErrDraining)
			require.Equal(t, !idempotent, errors.Is(err, job.Problemf("outcome-unknown", "")), "answer begun: %v", begun)
			require.EqualValues(t, 1, asked.Load())
		}
	}
}

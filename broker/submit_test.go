package broker

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// What a job was asked for lies in the store while it waits: ten thousand that wait
// with an input of a megabyte each are no ten gigabytes.
func TestWaitingJobHoldsNoInput(t *testing.T) {
	b := node(t, newShared(t))
	input := make([]byte, 64<<10)
	held := weak.Make(&input[0])
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind, Input: input})
	require.NoError(t, err)
	require.Eventually(t, func() bool { runtime.GC(); return held.Value() == nil }, 10*time.Second, time.Millisecond)
}

func TestSubmitToAStoreThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer func()
		b := node(t, &hook{newShared(t), func(next func(func(uint64, error)), done func(uint64, error)) {
			answer = func() { next(done) }
		}})
		begin := time.Now()
		_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, storeTime, time.Since(begin))
		answer()
	})
}

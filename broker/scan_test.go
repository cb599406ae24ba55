package broker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// However often is looked, nothing stays in the store of it: a stream has no more than a
// thousand consumers.
func TestLookingLeavesNothing(t *testing.T) {
	s := openShelf(t, t.TempDir())
	_, err := s.setDelivery(t.Context(), "over.job.1", []byte("x"), time.Hour, nil)
	require.NoError(t, err)
	for range 3 {
		for pattern, want := range map[string]int{"due.job.*": 0, "over.job.*": 1} {
			found := 0
			_, err := s.deliveries(t.Context(), pattern, func(stored) { found++ })
			require.NoError(t, err)
			require.Equal(t, want, found, pattern)
		}
	}
	info, err := s.hooks.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.Consumers)
}

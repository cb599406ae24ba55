package broker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// lateStore purges, and its answer is lost.
type lateStore struct{ store }

func (s lateStore) purge(ctx context.Context, below uint64) error {
	return errors.Join(s.store.purge(ctx, below), unavailable(context.DeadlineExceeded))
}

// A purge whose answer was lost is no loss, whatever is noted before the process dies.
func TestPurgeWithoutAnswer(t *testing.T) {
	s := newShared(t)
	b := node(t, lateStore{s})
	for range 3 {
		j, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
		require.NoError(t, err)
		require.NoError(t, claimFrom(t, b, j.ID).succeed(t.Context()))
		require.Eventually(t, func() bool { return b.Archived(j.ID) }, timeToWait, tick)
	}
	_, err := b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.NoError(t, err)
	b.purgeBelow(b.mark())
	b.tick()
	halt(b)
	_, logs := reopen(t, s, time.Hour)
	require.Empty(t, logs.FilterLevelExact(zap.ErrorLevel).All())
}

// A log that is shorter than at its orderly end has lost something, however little that is.
func TestEndIsNoted(t *testing.T) {
	opt := Options{Dir: t.TempDir(), MaxStore: 1 << 30, Log: zap.NewNop()}
	s, err := openEmbedded(t.Context(), opt)
	require.NoError(t, err)
	b, _ := reopen(t, s, time.Hour)
	_, err = b.Submit(t.Context(), job.NewID(), &job.Request{Kind: testKind})
	require.NoError(t, err)
	require.NoError(t, b.Close()) // before it is noted how far the log has come

	last := filepath.Join((&mender{dir: opt.Dir}).messages(jobsStream), blockName(1))
	info, err := os.Stat(last)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(last, info.Size()-1))
	s, err = openEmbedded(t.Context(), opt)
	require.NoError(t, err)
	_, logs := reopen(t, s, time.Hour)
	require.NotEmpty(t, logs.FilterLevelExact(zap.ErrorLevel).All())
}

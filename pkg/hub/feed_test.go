package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// However many follow a job that lives, the log is not asked once for them: all that they read is
// what the hub was told.
func TestReadersShareOneFeed(t *testing.T) {
	l := newLog()
	h := New(l, l, Options{})
	id := job.NewID()
	l.commit(h, id, job.Queued)
	var readers []tape.Reader
	for range 1000 {
		readers = append(readers, open(t, h, id, job.Cursor{}))
	}
	l.commit(h, id, job.Running, job.Progress)
	l.commit(h, id, job.Succeeded)
	for _, r := range readers {
		require.Len(t, drain(t, r), 4)
	}
	require.Zero(t, l.reads.Load())
}

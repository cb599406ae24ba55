package job_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestIDsOfABatch(t *testing.T) {
	one, other := job.NewBatchID(), job.NewBatchID()
	require.NotEqual(t, one, other)
	seen := map[job.ID]bool{}
	for _, batch := range []string{one, other} {
		require.True(t, job.ValidBatchID(batch))
		var ids []job.ID
		for n := range job.MaxBatch {
			id := job.IDIn(batch, n)
			require.True(t, job.ValidID(string(id)), id)
			require.Equal(t, n, id.IndexIn())
			require.Equal(t, batch[len("batch_"):][:10], string(id[len("job_"):][:10]), "its time")
			ids = append(ids, id)
			seen[id] = true
		}
		require.True(t, slices.IsSorted(ids))
	}
	require.Len(t, seen, 2*job.MaxBatch)
	for _, s := range []string{"", "batch_", string(job.NewID()), one + "0", one[:len(one)-1], "batch_" + string(job.NewID())} {
		require.False(t, job.ValidBatchID(s), s)
	}
}

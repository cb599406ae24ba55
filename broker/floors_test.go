package broker

import (
	"math"

	"github.com/stretchr/testify/require"
)

// requireFloors requires what the floors say to be what a look at every job says.
func requireFloors(t require.TestingT, b *Broker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var size int64
	low := uint64(math.MaxUint64)
	for _, e := range b.jobs {
		size += e.size
		low = min(low, e.floor)
	}
	require.Equal(t, len(b.jobs), b.floors.tree.Len())
	require.Equal(t, size, b.floors.size)
	first := b.floors.first()
	require.Equal(t, len(b.jobs) == 0, first == nil)
	require.True(t, first == nil || first.floor == low)
}

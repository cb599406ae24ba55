package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// The order is that of a sorted slice, however it was put together.
func TestOrder(t *testing.T) {
	var s records
	o := order{records: &s}
	r := rand.New(rand.NewPCG(1, 2))
	var want []uint32
	byPlace := func(a, b uint32) int { return compare(s.at(a).place(), s.at(b).place()) }
	for round := range 20 {
		for n := range 400 {
			h := s.take()
			s.at(h).created = int64(round*n*r.IntN(2) + r.IntN(100))
			s.at(h).id[15], s.at(h).id[14] = byte(h), byte(h>>8)
			o.insert(h)
			want = append(want, h)
		}
		slices.SortFunc(want, byPlace)
		for range r.IntN(399) {
			i := r.IntN(len(want))
			o.remove(s.at(want[i]).place())
			s.give(want[i])
			want = slices.Delete(want, i, i+1)
		}
		require.Equal(t, want, slices.Concat(o.blocks...))
		from := r.IntN(len(want))
		below := slices.Collect(o.below(s.at(want[from]).place()))
		slices.Reverse(below)
		require.True(t, slices.Equal(want[:from], below))
	}
	for _, h := range want[1:] {
		o.remove(s.at(h).place())
	}
	require.Len(t, o.blocks, 1)
}

// A few that stay among many that go do not each keep a block.
func TestOrderLeavesNoTrail(t *testing.T) {
	var s records
	o := order{records: &s}
	for n := range 100 * blockSize {
		h := s.take()
		s.at(h).created = int64(n)
		o.insert(h)
	}
	require.Len(t, o.blocks, 100)
	for n := range 100 * blockSize {
		if n%blockSize != 7 {
			o.remove(place{created: int64(n)})
		}
	}
	require.Len(t, o.blocks, 1)
}

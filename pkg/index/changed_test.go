package index

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// changing is a zoo of which the n-th job has its last event at position 10·n.
func changing() *Index {
	x := zoo()
	for n := range 7 {
		h := x.byID[key(n)]
		x.records.at(h).last = uint64(10 * n)
	}
	return x
}

func key(n int) [16]byte {
	k, _ := id(n).Bytes()
	return k
}

// What has changed behind a place is found, as far as it is selected, whatever the step; or it
// is said that there is too much of it.
func TestChanged(t *testing.T) {
	for name, tc := range map[string]struct {
		s     job.Selector
		since uint64
		most  int
		want  []int // nil: too many
	}{
		"all":                  {job.Selector{}, 0, 9, []int{0, 1, 2, 3, 4, 5, 6}},
		"as many as may be":    {job.Selector{}, 0, 7, []int{0, 1, 2, 3, 4, 5, 6}},
		"too many":             {job.Selector{}, 0, 6, nil},
		"there or behind":      {job.Selector{}, 50, 9, []int{5, 6}},
		"just behind":          {job.Selector{}, 51, 9, []int{6}},
		"nothing":              {job.Selector{}, 61, 9, []int{}},
		"of an owner":          {job.Selector{Owner: "bob"}, 11, 9, []int{5, 6}},
		"of a kind":            {job.Selector{Kinds: []string{"scan", "hash"}}, 10, 9, []int{1, 2, 3}},
		"with tags":            {job.Selector{Tags: []string{"a", "b"}}, 0, 9, []int{0, 1}},
		"of a batch":           {job.Selector{Batch: "b1"}, 30, 9, []int{3}},
		"of nobody":            {job.Selector{Owner: "eve"}, 0, 9, []int{}},
		"named":                {job.Selector{Jobs: []job.ID{id(6), id(2), id(4), id(99)}}, 30, 9, []int{4, 6}},
		"named, and of a kind": {job.Selector{Jobs: []job.ID{id(6), id(2)}, Kinds: []string{"scan"}}, 0, 9, []int{2}},
	} {
		for _, step := range []int{1, 2, 3, 1000} {
			x := changing()
			x.step = step
			got, all := x.Changed(tc.s, tc.since, tc.most)
			require.Equal(t, tc.want != nil, all, name)
			var want []job.ID
			for _, n := range tc.want {
				want = append(want, id(n))
			}
			require.ElementsMatch(t, want, got, "%s, by %d", name, step)
		}
	}
}

// Of the jobs that are named those are there that anybody may see.
func TestNamed(t *testing.T) {
	x := changing()
	require.ElementsMatch(t, []job.ID{id(1), id(3)}, x.Named(job.Selector{Jobs: []job.ID{id(3), id(1), id(77), "x"}}))
	require.Equal(t, []job.ID{id(1)}, x.Named(job.Selector{Owner: "bob", Jobs: []job.ID{id(3), id(1)}}))
	x.fold(job.Job{ID: id(1), Erased: true})
	x.records.at(x.byID[key(3)]).expires = time.Now().Add(-time.Second).UnixMilli()
	require.Empty(t, x.Named(job.Selector{Jobs: []job.ID{id(3), id(1)}}), "erased, and expired")
	x.fold(job.Job{ID: id(50)})
	require.Empty(t, x.Named(job.Selector{Jobs: []job.ID{id(50)}}), "damaged")
}

// Where a job's last event is, and whether more may come.
func TestLast(t *testing.T) {
	x := changing()
	for n, want := range map[int]bool{0: false, 1: false, 2: true, 3: true, 4: true} {
		last, over := x.Last(id(n))
		require.EqualValues(t, 10*n, last)
		require.Equal(t, want, over, n)
	}
	for _, none := range []job.ID{id(99), "x"} {
		last, over := x.Last(none)
		require.Zero(t, last)
		require.True(t, over)
	}
	x.fold(job.Job{ID: id(50)})
	_, over := x.Last(id(50))
	require.True(t, over, "nothing of what is damaged can come")
	x.fold(job.Job{ID: id(0), Kind: "hash", Status: job.StatusRunning, Cursor: job.Cursor{Seq: 2, Place: job.Place{Position: 71}}})
	last, _ := x.Last(id(0))
	require.EqualValues(t, 71, last)
}

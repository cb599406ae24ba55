package job_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// The bits of an id are its own, and sort as ids do.
func TestIDBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Byte(), 16, 16)
		a, b := [16]byte(bits.Draw(t, "a")), [16]byte(bits.Draw(t, "b"))
		got, ok := job.IDOf(a).Bytes()
		require.True(t, ok)
		require.Equal(t, a, got)
		require.Equal(t, slices.Compare(a[:], b[:]), strings.Compare(string(job.IDOf(a)), string(job.IDOf(b))))
	})
	for _, bad := range []job.ID{"", "job_", "job_01k3z9aaaaaaaaaaaaaaaaaaa", "job_81k3z9aaaaaaaaaaaaaaaaaaaa", "job_01k3z9aaaaaaaaaaaaaaaaaaau"} {
		_, ok := bad.Bytes()
		require.False(t, ok, bad)
	}
}

func TestListCursor(t *testing.T) {
	for _, at := range []int64{0, 1, 1_800_000_000_000, math.MaxInt64, math.MinInt64} {
		c := job.ListCursor{Created: at, ID: job.NewID()}
		require.Regexp(t, `^[A-Za-z0-9_-]{32}$`, c.String())
		got, err := job.ParseListCursor(c.String())
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	require.Empty(t, job.ListCursor{}.String())
	sound := job.ListCursor{Created: 1, ID: job.NewID()}.String()
	for _, bad := range []string{"", "x", sound[:31], sound + "A", sound[:31] + "=", "+" + sound[1:], "\n" + sound, sound[:16] + "\n" + sound[16:], strings.Repeat("é", 16)} {
		_, err := job.ParseListCursor(bad)
		require.ErrorIs(t, err, job.ErrCursor, "%q", bad)
	}
}

func FuzzParseListCursor(f *testing.F) {
	f.Add(job.ListCursor{Created: 1, ID: "job_01k3z9aaaaaaaaaaaaaaaaaaaa"}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := job.ParseListCursor(s); err == nil {
			require.Equal(t, s, c.String(), "one place has one name")
		}
	})
}

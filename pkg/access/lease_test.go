package access_test

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/access"
	"github.com/millstream/millstream/pkg/job"
)

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := access.NewSigner(key)
		want := access.Lease{Job: job.NewID(), Seq: 7, Kind: "resize", Worker: "w-7", Expires: time.Now().Add(time.Hour)}
		token := s.MintLease(want)
		got, err := s.VerifyLease(token)
		require.NoError(t, err)
		require.True(t, want.Expires.Equal(got.Expires))
		got.Expires = want.Expires
		require.Equal(t, want, got)

		_, err = s.Verify(token)
		require.ErrorIs(t, err, access.ErrToken, "a lease reads nothing")
		for name, bad := range map[string]string{
			"a read token":  s.Mint(want.Job, "somebody", time.Time{}),
			"another key's": access.NewSigner(bytes.Repeat([]byte{8}, access.KeySize)).MintLease(want),
			"no lease":      s.MintLease(access.Lease{Job: want.Job, Expires: want.Expires}),
			"no job":        s.MintLease(access.Lease{Job: "x", Seq: 7, Expires: want.Expires}),
			"cut":           token[:len(token)-1],
			"nothing":       "",
			"much":          strings.Repeat("a", 1<<20),
		} {
			_, err := s.VerifyLease(bad)
			require.ErrorIs(t, err, access.ErrToken, name)
		}
		time.Sleep(time.Hour)
		_, err = s.VerifyLease(token)
		require.ErrorIs(t, err, job.ErrLeaseLost)
		_, err = access.NewSigner(bytes.Repeat([]byte{8}, access.KeySize)).VerifyLease(token)
		require.ErrorIs(t, err, access.ErrToken)
	})
}

package broker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// No two processes on a store have the same epoch, nor two on copies of it that were
// opened at different times, nor if the clock goes back.
func TestEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(firstEpoch.Add(time.Hour)))
		s := newMemory()
		defer s.close()
		begin := func() uint64 {
			epoch, err := beginEpoch(t.Context(), s)
			require.NoError(t, err)
			return epoch
		}
		first := begin()
		require.EqualValues(t, 3_600_000, first)
		require.Greater(t, begin(), first, "within the same millisecond")

		kept, err := s.setting(t.Context(), epochSetting)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		lost := begin()
		time.Sleep(time.Minute)
		require.NoError(t, s.set(t.Context(), epochSetting, kept, false)) // an older copy is put back
		require.Greater(t, begin(), lost)

		require.NoError(t, s.set(t.Context(), epochSetting, []byte("4000000000"), false)) // by a clock that was wrong
		require.EqualValues(t, 4000000001, begin())
	})
}

// A cursor outlives the process that gave it, whatever epoch the next one has.
func TestCursorOutlivesProcess(t *testing.T) {
	s := newShared(t)
	first := node(t, s)
	id := submitTo(t, first)
	events, err := first.History(t.Context(), id, job.Cursor{}, pageSize)
	require.NoError(t, err)
	require.NoError(t, first.Close())

	next := node(t, s)
	require.NotEqual(t, first.epoch, next.epoch)
	after, err := next.History(t.Context(), id, events[0].Cursor(), pageSize)
	require.NoError(t, err)
	require.Empty(t, after)
	claimFrom(t, next, id)
	after, err = next.History(t.Context(), id, events[0].Cursor(), pageSize)
	require.NoError(t, err)
	require.Len(t, after, 1)
	require.Equal(t, next.epoch, after[0].Place.Epoch)
}

// A cursor of an earlier epoch is foreign, though seq and position are the same.
func TestCursorOfAnotherEpoch(t *testing.T) {
	b := node(t, newShared(t))
	id := submitTo(t, b)
	events, err := b.History(t.Context(), id, job.Cursor{}, pageSize)
	require.NoError(t, err)
	old := events[0].Cursor()
	old.Epoch--
	_, err = b.History(t.Context(), id, old, pageSize)
	require.ErrorIs(t, err, job.ErrCursor)
}

// What is damaged is told and not served; everything else is, and nothing of it
// is deleted.
func TestDamagedJobHarmsNobodyElse(t *testing.T) {
	m := newMemory()
	t.Cleanup(m.close)
	s := shared{m}
	first := node(t, s)
	var ids []job.ID
	for range 3 {
		id := submitTo(t, first)
		claimFrom(t, first, id)
		ids = append(ids, id)
	}
	require.NoError(t, first.Close())
	m.mu.Lock()
	for i := range m.log { // the second message of the second job is lost without a word
		if m.log[i].subject == subjectOf(testKind, ids[1]) && i > 2 {
			m.log[i].data = append([]byte(nil), m.log[i].data...)
			m.log[i].data[20] ^= 1
		}
	}
	before := len(m.log)
	m.mu.Unlock()

	next := node(t, s)
	for i, id := range ids {
		_, err := next.Job(t.Context(), id)
		if i == 1 {
			require.ErrorIs(t, err, job.ErrDamaged)
			_, err = next.Cancel(t.Context(), id, "", "")
			require.ErrorIs(t, err, job.ErrDamaged)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
	}
	require.Eventually(t, func() bool { return next.Archived(ids[0]) && next.Archived(ids[2]) }, timeToWait, tick)
	next.purgeBelow(next.mark())
	require.GreaterOrEqual(t, len(m.log), before-2, "the log is kept from the damaged job on")
}

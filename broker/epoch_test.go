package broker

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// The epoch changes when the machine went down under an open store, and never
// else: then positions may come again, and an old cursor must not be mistaken.
func TestEpoch(t *testing.T) {
	s := newShared(t)
	begin := func() uint32 {
		epoch, err := beginEpoch(t.Context(), s, true)
		require.NoError(t, err)
		return epoch
	}
	require.EqualValues(t, 1, begin())
	require.EqualValues(t, 1, begin(), "killed")
	require.NoError(t, endEpoch(s, 1))
	require.EqualValues(t, 1, begin(), "closed")

	otherBoot := func(clean bool) {
		require.NoError(t, s.set(t.Context(), lifeSetting, mustJSON(life{Epoch: 1, Boot: "another", Clean: clean}), false))
	}
	otherBoot(true)
	require.EqualValues(t, 1, begin(), "closed before the machine went down")
	otherBoot(false)
	require.EqualValues(t, 2, begin(), "open when the machine went down")
	require.EqualValues(t, 2, begin())
}

// A cursor of an earlier epoch is foreign, though seq and position are the same.
func TestCursorOfAnotherEpoch(t *testing.T) {
	b := node(t, newShared(t))
	id := submitTo(t, b)
	events, err := b.History(t.Context(), id, job.Cursor{})
	require.NoError(t, err)
	old := events[0].Cursor()
	old.Epoch--
	_, err = b.History(t.Context(), id, old)
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
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, claimFrom(t, next, id).succeed(t.Context()))
	}
	require.Eventually(t, func() bool { return next.Archived(ids[0]) && next.Archived(ids[2]) }, timeToWait, tick)
	next.purgeBehind()
	require.GreaterOrEqual(t, len(m.log), before-2, "the log is kept from the damaged job on")
}

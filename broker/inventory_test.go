package broker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"pgregory.net/rapid"
)

// Of what is found, that is taken which the stream has, and what it has is missed where it
// is not found.
func TestInventory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(1, 20).Draw(t, "first")
		last := first - 1 + rapid.Uint64Range(0, 30).Draw(t, "length")
		v := inventory{next: first, last: last}
		var there, found, taken, missed, wantTaken, wantMissed []uint64
		for p := range uint64(60) {
			if first <= p && p <= last && rapid.Bool().Draw(t, "gone") {
				v.gone = append(v.gone, p)
			} else if first <= p && p <= last {
				there = append(there, p)
			}
			if rapid.Bool().Draw(t, "found") {
				found = append(found, p)
			}
		}
		for _, p := range there {
			require.True(t, v.has(p))
			if slices.Contains(found, p) {
				wantTaken = append(wantTaken, p)
			} else {
				wantMissed = append(wantMissed, p)
			}
		}
		require.False(t, v.has(first-1) || v.has(last+1))
		for _, p := range found {
			if v.take(p, &missed) {
				taken = append(taken, p)
			}
			require.False(t, v.take(p, &missed), "twice")
		}
		v.skip(v.last+1, &missed)
		require.Equal(t, wantTaken, taken)
		require.Equal(t, wantMissed, missed)
	})
}

// shelf is an archive, and directories with files that are said to be its.
type shelf struct {
	*jetStream
	dir string
	end func()
}

func openShelf(t *testing.T, dir string) *shelf {
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	end := sync.OnceFunc(s.close)
	t.Cleanup(end)
	return &shelf{s, dir, end}
}

func (s *shelf) keep(t *testing.T, name string, size int, ttl time.Duration) {
	_, err := s.place(t.Context(), name, bytes.Repeat([]byte(name+" "), size), ttl)
	require.NoError(t, err)
}

// fill puts heads on the shelf, and more beside them than goes into one block.
func (s *shelf) fill(t *testing.T) {
	for n := range 300 {
		id := fmt.Sprintf("head-%03d", n)
		if s.keep(t, id, 9, time.Hour); n%10 == 0 {
			s.keep(t, id+".0", 1<<14, time.Hour)
			s.keep(t, id+".7.0", 1<<14, time.Hour)
		}
	}
}

// change takes some away, each in one of the ways that there are.
func (s *shelf) change(t *testing.T) {
	for n := range 20 {
		s.keep(t, fmt.Sprintf("head-%03d", 7*n), 5, time.Hour) // in place of what was there
		s.keep(t, fmt.Sprintf("brief-%d", n), 5, time.Second)
	}
	require.NoError(t, s.remove(t.Context(), "head-010"))
	require.NoError(t, s.done.DeleteMsg(t.Context(), 5))
	require.NoError(t, s.done.SecureDeleteMsg(t.Context(), 6))
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(s.handedOut(t), func(m stored) bool { return m.subject[:5] == "brief" })
	}, timeToWait, tick)
}

// handedOut is what the server says that it has.
func (s *shelf) handedOut(t *testing.T) (all []stored) {
	info, err := s.done.Info(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.consumeHeads(t.Context(), 0, info.State.LastSeq, func(m stored) { all = append(all, m) }))
	return all
}

// scanned is what a scan finds, with the files of a store in dir.
func (s *shelf) scanned(t *testing.T, dir string) (all []stored) {
	info, err := s.done.Info(t.Context())
	require.NoError(t, err)
	err = s.scanOwn(t.Context(), newImage(dir, doneStream, true), info.State.LastSeq, func(m stored) {
		m.data = bytes.Clone(m.data)
		all = append(all, m)
	})
	require.NoError(t, err)
	slices.SortFunc(all, func(a, b stored) int { return int(a.position) - int(b.position) })
	return all
}

// copied is a store with the files that the shelf has now.
func (s *shelf) copied(t *testing.T) (dir string, blocks []string) {
	dir = t.TempDir()
	copyTo(t, s.dir, dir)
	dir = filepath.Join(dir, filepath.Base(s.dir))
	blocks, err := filepath.Glob(filepath.Join((&mender{dir: dir}).messages(doneStream), "*.blk"))
	require.NoError(t, err)
	require.Greater(t, len(blocks), 1)
	return dir, blocks
}

// Whatever lies in the files, a scan finds what the server has, and that as it is.
func TestScanFindsWhatTheServerHas(t *testing.T) {
	s := openShelf(t, t.TempDir())
	s.fill(t)
	before, _ := s.copied(t)
	s.change(t)
	want := s.handedOut(t)
	require.Len(t, want, 298)
	_, ok, err := s.inventory(t.Context(), 10)
	require.NoError(t, err)
	require.False(t, ok, "it is longer")
	flipped, blocks := s.copied(t)
	data, err := os.ReadFile(blocks[0])
	require.NoError(t, err)
	data[bytes.Index(data, []byte("done.head-100"))-recordHead+5] ^= 1 // of its position
	data[bytes.Index(data, []byte("head-050 head-050"))] ^= 1
	require.NoError(t, os.WriteFile(blocks[0], data, 0o600))
	cut, blocks := s.copied(t)
	require.NoError(t, os.Truncate(blocks[0], 10_000))
	gone, blocks := s.copied(t)
	require.NoError(t, os.Remove(blocks[1]))
	for what, dir := range map[string]string{
		"its own": s.dir, "of before": before, "a bit flipped": flipped, "cut": cut, "one gone": gone, "none": t.TempDir(),
	} {
		s.sound = what != "a bit flipped"
		require.Equal(t, want, s.scanned(t, dir), what)
	}
}

// As above, after the ends that a store may have.
func TestScanAfterAnEnd(t *testing.T) {
	s := openShelf(t, t.TempDir())
	s.fill(t)
	s.change(t)
	want := s.handedOut(t)
	killed, _ := s.copied(t)
	again := openShelf(t, killed)
	require.True(t, again.sound)
	require.Equal(t, want, again.handedOut(t))
	require.Equal(t, want, again.scanned(t, killed))
	dir := s.dir
	s.end()
	again = openShelf(t, dir)
	require.Equal(t, want, again.scanned(t, dir))
}

// What the server does not have any more is told as lost, also while it lies in the files.
func TestWhatTheServerHasLostIsTold(t *testing.T) {
	f := fillStore(t)
	s := openShelf(t, f.dir)
	heads := s.handedOut(t)
	require.Len(t, heads, 20)
	require.NoError(t, s.done.DeleteMsg(t.Context(), heads[3].position))
	_, logs := reopen(t, shared{s.jetStream}, 48*time.Hour)
	require.Len(t, logs.FilterMessage("the store has lost finished jobs").All(), 1)
}

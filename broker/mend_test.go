package broker

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// filled is a store with jobs that are over, and some that are not.
type filled struct {
	dir    string
	events map[job.ID][]job.Event
	keys   map[string]job.ID // of the jobs that came with one
	blocks []string          // the files
}

func fillStore(t *testing.T) *filled { return fillWith(t, fillSmall) }

// fillWith makes a store of the jobs that jobs runs, and returns.
func fillWith(t *testing.T, jobs func(*testing.T, *Broker, *filled) []job.ID) *filled {
	f := &filled{dir: t.TempDir(), events: map[job.ID][]job.Event{}, keys: map[string]job.ID{}}
	s, err := openEmbedded(t.Context(), Options{Dir: f.dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	b, _ := reopen(t, s, 48*time.Hour)
	for _, id := range jobs(t, b, f) {
		f.events[id], err = eventsOf(t, b, id)
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
	f.blocks, err = filepath.Glob(filepath.Join(f.dir, "jetstream", "$G", "streams", "*", "msgs", "*.blk"))
	require.NoError(t, err)
	f.blocks = slices.DeleteFunc(f.blocks, func(name string) bool { return sizeOf(t, name) == 0 })
	require.GreaterOrEqual(t, len(f.blocks), 3)
	return f
}

func sizeOf(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Size()
}

// fillSmall runs jobs of a few events, each of them with a key; half of them are over.
func fillSmall(t *testing.T, b *Broker, f *filled) (ids []job.ID) {
	run := func(events int) *Task {
		key := fmt.Sprint("key ", len(f.keys))
		j, _, err := b.SubmitOnce(t.Context(), key, "f", &job.Request{Kind: testKind, Input: []byte("in")})
		require.NoError(t, err)
		f.keys[key] = j.ID
		task := claimFrom(t, b, j.ID)
		for range events {
			require.NoError(t, task.Append(t.Context(), output(strings.Repeat("text\n", 10))))
		}
		ids = append(ids, j.ID)
		return task
	}
	for i := range 20 {
		require.NoError(t, run(i%4).succeed(t.Context()))
	}
	require.Eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.purged.Load() == b.head }, timeToWait, tick)
	for i := range 20 {
		require.NoError(t, run(i%4).back(t.Context()))
	}
	return ids
}

func eventsOf(t *testing.T, b *Broker, id job.ID) (all []job.Event, err error) {
	t.Helper()
	for after := (job.Cursor{}); ; after = all[len(all)-1].Cursor() {
		events, err := b.History(t.Context(), id, after, 128<<10)
		if err != nil || len(events) == 0 {
			return all, err
		}
		all = append(all, events...)
	}
}

// damage makes a copy of the store and changes it: one bit flipped in a block, or a
// block cut, or gone; in half of the cases as after a kill, without an index.
func (f *filled) damage(t *testing.T, r *rand.Rand) (dir, what string) {
	root := t.TempDir()
	copyTo(t, f.dir, root)
	dir = filepath.Join(root, filepath.Base(f.dir))
	rel, err := filepath.Rel(f.dir, f.blocks[r.IntN(len(f.blocks))])
	require.NoError(t, err)
	name := filepath.Join(dir, rel)
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	at := r.IntN(len(data))
	switch r.IntN(10) {
	case 0:
		require.NoError(t, os.Truncate(name, int64(at)))
		what = "cut"
	case 1:
		require.NoError(t, os.Remove(name))
		what = "gone"
	default:
		data[at] ^= 1 << r.IntN(8)
		require.NoError(t, os.WriteFile(name, data, 0o600))
		what = "flipped"
	}
	if r.IntN(2) == 0 {
		require.NoError(t, remove(filepath.Join(filepath.Dir(name), "index.db")))
		require.NoError(t, remove(filepath.Join(dir, cleanFile)))
	}
	return dir, fmt.Sprint(what, " at ", at, " of ", rel)
}

// Whatever is damaged: a job is as it was, or it is said that something is lost. One
// flipped bit takes no more than one job.
func TestDamageIsNeverSilent(t *testing.T) {
	f := fillStore(t)
	for seed := range uint64(*damages) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir, what := f.damage(t, rand.New(rand.NewPCG(seed, 0)))
			core, logs := observer.New(zap.ErrorLevel)
			s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.New(core)})
			require.NoError(t, err, what)
			b, found := reopen(t, s, 48*time.Hour)
			var lost int
			for id, want := range f.events {
				if got, err := eventsOf(t, b, id); err != nil || !startsWith(got, want) {
					lost++
				}
			}
			lost += f.forgotten(t, b)
			reports := append(logs.All(), found.FilterLevelExact(zap.ErrorLevel).All()...)
			if lost > 0 {
				require.NotEmpty(t, reports, "%s: %d jobs", what, lost)
			}
			if strings.HasPrefix(what, "flipped") {
				require.LessOrEqual(t, lost, 1, "%s: %v", what, reports)
				require.NotEmpty(t, reports, what)
			}
		})
	}
}

// forgotten returns how many keys are another job now.
func (f *filled) forgotten(t *testing.T, b *Broker) (n int) {
	for key, id := range f.keys {
		j, _, err := b.SubmitOnce(t.Context(), key, "f", &job.Request{Kind: testKind, Input: []byte("in")})
		if err == nil && j.ID != id {
			n++
		}
	}
	return n
}

// damages is how many stores are damaged.
var damages = flag.Int("damages", 24, "stores to damage")

// startsWith reports whether what was before is what got begins with.
func startsWith(got, want []job.Event) bool {
	if len(got) < len(want) {
		return false
	}
	for i := range want {
		if got[i].Cursor() != want[i].Cursor() || !bytes.Equal(got[i].Data, want[i].Data) {
			return false
		}
	}
	return true
}

// Whatever is in a block, mending it once is enough, and takes nothing that fits.
func TestMendTwiceIsOnce(t *testing.T) {
	var whole []byte
	empty := newBlock(jobsStream, 1, nil)
	for n := range uint64(20) {
		whole = append(whole, empty.made(n+1, fmt.Sprint("jobs.k.job_", n), strings.Repeat("x", int(n)*7))...)
	}
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Clone(whole)
		for range rapid.IntRange(1, 5).Draw(t, "damages") {
			at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			part := rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "part")
			if rapid.Bool().Draw(t, "cut") {
				data = append(data[:at:at], data[min(len(data), at+len(part)):]...)
			} else {
				copy(data[at:], part)
			}
			if len(data) == 0 {
				return
			}
		}
		tail := rapid.Bool().Draw(t, "tail")
		before := intactIn(newBlock(jobsStream, 1, bytes.Clone(data)))
		b := newBlock(jobsStream, 1, data)
		_, last := b.mend(0, tail)
		after := intactIn(b)
		for _, r := range before {
			if !bytes.Contains(b.data, r) {
				t.Fatalf("a record that fitted is gone: %q", r)
			}
		}
		if len(after) < len(before) {
			t.Fatalf("%d records of %d", len(after), len(before))
		}
		found, again := b.mend(0, tail)
		if len(found) > 0 || again != last {
			t.Fatalf("mended again: %v, ends at %d and %d", found, last, again)
		}
	})
}

// A size that is damaged may lead to the end of a later record: each bit of each size, in a
// block whose records are all of one size.
func TestDamagedSizeTakesNoOther(t *testing.T) {
	const records, size = 40, 128
	var whole []byte
	empty := newBlock(jobsStream, 1, nil)
	for n := range uint64(records) {
		subject := fmt.Sprintf("jobs.k.job_%02d", n)
		whole = append(whole, empty.made(2*n+1, subject, strings.Repeat("x", size-smallest-len(subject)))...)
	}
	for n := range records {
		for bit := range 31 {
			data := bytes.Clone(whole)
			data[n*size+bit/8] ^= 1 << (bit % 8)
			b := newBlock(jobsStream, 1, data)
			found, _ := b.mend(0, false)
			require.Len(t, found, 1, "record %d, bit %d", n, bit)
			require.True(t, bytes.Equal(whole, b.data), "record %d, bit %d: its size is all that was wrong", n, bit)
		}
	}
}

// The last record of a stream is the server's to cut if a loss of power left zeros in the
// place of its end, from a sector on, and of all behind it. If it is there to its end, it
// is damaged.
func TestUnwrittenEndIsNoDamage(t *testing.T) {
	for size := range 1200 {
		empty := newBlock(jobsStream, 1, nil)
		whole := empty.made(1, "jobs.k.job_1", strings.Repeat("x", size))
		last := len(whole)
		whole = append(whole, empty.made(2, "jobs.k.job_2", strings.Repeat("y", 1000))...)
		end := len(whole)
		whole = append(whole, empty.made(3, "jobs.k.job_3", "z")...)
		for at := (last/sectorSize + 1) * sectorSize; at < end; at += sectorSize {
			data := bytes.Clone(whole)
			clear(data[at:])
			torn := newBlock(jobsStream, 1, bytes.Clone(data))
			found, seq := torn.mend(0, true)
			require.Empty(t, found, "%d of %d", at, end)
			require.EqualValues(t, 1, seq)
			require.Equal(t, data, torn.data)
		}
		data := whole[:end]
		data[end-recordSeal-1] ^= 1
		found, _ := newBlock(jobsStream, 1, data).mend(0, true)
		require.Len(t, found, 1)
	}
}

// The end of a block may be torn as well if what came behind it, in a new block, is not there
// either; but not before records that are.
func TestUnwrittenEndBeforeANewBlock(t *testing.T) {
	first := newBlock(jobsStream, 1, nil)
	torn := append(first.made(1, "jobs.k.job_1", "x"), first.made(2, "jobs.k.job_2", strings.Repeat("y", 2*sectorSize))...)
	clear(torn[sectorSize:])
	next := newBlock(jobsStream, 2, nil).made(3, "jobs.k.job_3", "z")
	for what, c := range map[string]struct {
		next  []byte
		found int
	}{
		"empty":     {nil, 0},
		"unwritten": {make([]byte, len(next)), 0},
		"written":   {next, 1},
	} {
		t.Run(what, func(t *testing.T) {
			m := &mender{dir: t.TempDir(), log: zap.NewNop()}
			require.NoError(t, os.MkdirAll(m.messages(jobsStream), 0o700))
			require.NoError(t, os.WriteFile(m.file(jobsStream, 1), torn, 0o600))
			require.NoError(t, os.WriteFile(m.file(jobsStream, 2), c.next, 0o600))
			require.NoError(t, m.mendStream(jobsStream, []int{1, 2}))
			require.Equal(t, c.found, m.found)
		})
	}
}

// made returns a record as the server writes it.
func (b *block) made(sequence uint64, subject, message string) []byte {
	r := record{end: recordHead + len(subject) + len(message) + recordSeal, sequence: sequence, time: int64(sequence), subject: len(subject)}
	b.data = append(append(append(make([]byte, recordHead), subject...), message...), make([]byte, recordSeal)...)
	b.write(r)
	copy(b.data[r.end-recordSeal:], b.seal(r))
	return b.data
}

// intactIn returns the records of a block in order of sequence that fit, wherever they are.
func intactIn(b *block) (all [][]byte) {
	last := uint64(0)
	for at := 0; at < len(b.data); at++ {
		if r, ok := b.at(at); ok && b.fits(r) && r.number() > last {
			all = append(all, b.data[r.begin:r.end])
			last, at = r.number(), r.end-1
		}
	}
	return all
}

// That keys are lost is told once: the next start has those that were made anew.
func TestLostKeysAreToldOnce(t *testing.T) {
	f := fillStore(t)
	keys := filepath.Join(f.dir, "jetstream", "$G", "streams", keysStream, "msgs")
	require.NoError(t, os.RemoveAll(keys))
	for _, damage := range []bool{true, false, false} {
		s, err := openEmbedded(t.Context(), Options{Dir: f.dir, MaxStore: 1 << 30, Log: zap.NewNop()})
		require.NoError(t, err)
		b, found := reopen(t, s, 48*time.Hour)
		require.Equal(t, damage, found.FilterLevelExact(zap.ErrorLevel).Len() > 0, found.All())
		require.NoError(t, b.saveMarks(t.Context(), b.purged.Load()))
		require.NoError(t, b.Close())
	}
}

// The index goes before the first block that is mended: the process may die behind it.
func TestIndexGoesBeforeItsBlocks(t *testing.T) {
	m := &mender{dir: t.TempDir(), log: zap.NewNop()}
	dir := m.messages(jobsStream)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	whole := newBlock(jobsStream, 1, nil).made(1, "jobs.k.job_1", "message")
	whole[len(whole)-1] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(dir, blockName(1)), whole, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.db"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, blockName(2)), 0o700)) // cannot be read: as if it died there
	require.NoError(t, os.WriteFile(filepath.Join(dir, blockName(3)), newBlock(jobsStream, 3, nil).made(3, "jobs.k.job_1", "message"), 0o600))
	require.Error(t, m.mendStream(jobsStream, []int{1, 2, 3}))
	require.Equal(t, 1, m.found)
	require.NoFileExists(t, filepath.Join(dir, "index.db"))
}

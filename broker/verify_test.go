package broker

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
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

	"github.com/millstream/millstream/pkg/job"
)

// verified returns what Verify says of a store.
func verified(t *testing.T, dir string) (Checked, []Finding) {
	t.Helper()
	var found []Finding
	var last, total int64
	c, err := Verify(t.Context(), dir, func(f Finding) { found = append(found, f) }, func(d, n int64) { last, total = d, n })
	require.NoError(t, err)
	require.Equal(t, total, last, "it gets to the end")
	require.Len(t, found, c.Findings)
	return c, found
}

// A store that is as it was left has no findings, and is the same afterwards.
func TestVerifySound(t *testing.T) {
	for _, tt := range []struct {
		fill           func(*testing.T, *Broker, *filled) []job.ID
		live, finished int
	}{{fillSmall, 20, 20}, {fillLarge, 3, 2}} {
		f := fillWith(t, tt.fill)
		before := sums(t, f.dir)
		c, found := verified(t, f.dir)
		require.Empty(t, found)
		require.Equal(t, before, sums(t, f.dir))
		require.Equal(t, tt.live, c.Live)
		require.Equal(t, tt.finished, c.Finished)
		require.Equal(t, 5, c.Streams)
	}
}

// sums returns the checksum of every file below dir.
func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = sha256.Sum256(data)
		return err
	}))
	return all
}

// fillLarge runs jobs that have more in the archive than a head: one with a result in pieces,
// one with events in parts, and a live one that was moved.
func fillLarge(t *testing.T, b *Broker, _ *filled) []job.ID {
	// It waits, and so holds the log: however long this takes, none of it is purged.
	_, _, err := b.SubmitOnce(t.Context(), "key", "f", &job.Request{Kind: testKind})
	require.NoError(t, err)
	var tasks []*Task
	for range 3 {
		tasks = append(tasks, claimFrom(t, b, submitTo(t, b)))
	}
	for range 3 {
		for _, task := range tasks[1:] {
			require.NoError(t, task.Append(t.Context(), output(base64.StdEncoding.EncodeToString(noise(partSize/2)))))
		}
	}
	require.NoError(t, b.move(tasks[2].e))
	require.NoError(t, tasks[2].back(t.Context()))
	result := noise(2*job.PieceSize + 1)
	require.NoError(t, tasks[0].Attach(t.Context(), result[:job.PieceSize]))
	require.NoError(t, tasks[0].Attach(t.Context(), result[job.PieceSize:2*job.PieceSize]))
	end := attached(tasks[0], result)
	end.Record.Private.Result.Pieces = tasks[0].pieces
	tasks[0].Succeed(end)
	require.NoError(t, tasks[0].succeed(t.Context()))
	require.NoError(t, tasks[1].succeed(t.Context()))
	var ids []job.ID
	for i, task := range tasks {
		ids = append(ids, task.Job.ID)
		require.Eventually(t, func() bool { return i == 2 || b.Archived(task.Job.ID) }, timeToWait, tick)
	}
	id := job.NewID()
	_, err = b.Submit(t.Context(), id, &job.Request{Kind: testKind, Upload: uploadTo(t, b, noise(job.PieceSize+1))})
	require.NoError(t, err)
	return append(ids, id)
}

// Whatever costs a job, or any of its result, at the next start was told before; and so
// was all that the start says.
func TestVerifyMissesNothing(t *testing.T) {
	stores := []*filled{fillStore(t), fillWith(t, fillLarge)}
	counts := map[string]int{}
	for seed := range uint64(*damages) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := stores[min(seed%3, 2)/2]
			dir, what := f.damage(t, rand.New(rand.NewPCG(seed, 0)))
			before := sums(t, dir)
			_, told := verified(t, dir)
			require.Equal(t, before, sums(t, dir))
			lost, said := f.lostIn(t, dir)
			if lost > 0 || said > 0 {
				require.NotEmpty(t, told, "%s: %d jobs", what, lost)
			}
			if !slices.ContainsFunc(told, Finding.costly) {
				require.Zero(t, lost, "%s: %v", what, told)
			}
			if len(told) == 0 {
				t.Log("nothing told:", what)
			}
			counts[fmt.Sprintf("loss: %t, told: %t", lost > 0, len(told) > 0)]++
		})
	}
	t.Logf("%d stores: %v", *damages, counts)
}

// costly reports whether something is lost.
func (f Finding) costly() bool { return !strings.HasSuffix(f.Then, nothingLost) }

// Each kind of damage has its words.
func TestVerifySays(t *testing.T) {
	f := fillWith(t, fillLarge)
	for _, tt := range []struct {
		file, what, then string
		damage           func([]byte) []byte
	}{
		{"KEYS/meta.inf", "the description of the stream", nothingLost, flip(7)},
		{"DONE/meta.sum", "the description of the stream", nothingLost, flip(0)},
		{"JOBS/msgs/index.db", "the index of the stream", nothingLost, flip(9)},
		{"DONE/msgs/thw.db", "list of what expires", "too early", flip(17)},
		{"DONE/msgs/1.blk", "piece 1 of 3 of a result is damaged", "breaks off", flip(600_000)},
		{"DONE/msgs/1.blk", "piece 1 of 3 of a result is gone", "breaks off", func([]byte) []byte { return nil }},
		{"DONE/msgs/1.blk", "piece 1 of 2 of an input is damaged", "job-damaged", func(b []byte) []byte { return flip(len(b) - 300_000)(b) }},
		{"DONE/msgs/1.blk", "piece 1 of 2 of an input is gone", "job-damaged", func([]byte) []byte { return nil }},
		{"DONE/msgs/1.blk", "part 1 of 3 is gone", "500", func([]byte) []byte { return nil }},
		{"DONE/msgs/1.blk", "2 finished jobs are missing", "404", func([]byte) []byte { return nil }},
		{"DONE/msgs/1.blk", "the end of the stream is gone", "lost", func(b []byte) []byte { return b[:len(b)-10] }},
		{"JOBS/msgs/*.blk", "the end of the stream is gone", "lost", func(b []byte) []byte { return b[:len(b)-10] }},
		{"KV_MILLSTREAM/msgs/1.blk", "the end of the stream is gone", "lost", func(b []byte) []byte { return b[:50] }},
		{"KEYS/msgs/1.blk", "the records of 1 idempotency keys are missing", "second", func([]byte) []byte { return nil }},
		{"KV_MILLSTREAM/msgs/1.blk", "the settings are gone", "new ones", func([]byte) []byte { return nil }},
	} {
		t.Run(tt.file+" "+tt.what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			copyTo(t, f.dir, dir)
			names, err := filepath.Glob(filepath.Join(streamsIn(dir), filepath.FromSlash(tt.file)))
			require.NoError(t, err)
			require.Len(t, names, 1)
			data, err := os.ReadFile(names[0])
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(names[0], tt.damage(data), 0o600))
			_, found := verified(t, dir)
			i := slices.IndexFunc(found, func(f Finding) bool { return strings.Contains(f.What, tt.what) })
			require.GreaterOrEqual(t, i, 0, "%v", found)
			require.Contains(t, found[i].Then, tt.then)
			if !slices.ContainsFunc(found, Finding.costly) {
				lost, _ := f.lostIn(t, dir)
				require.Zero(t, lost)
			}
		})
	}
}

// What lies in a block and is not kept any more is nobody's loss: a job that was purged, a
// setting that was replaced, a key that was dropped.
func TestVerifyOfWhatIsGone(t *testing.T) {
	f := fillWith(t, func(t *testing.T, b *Broker, _ *filled) []job.ID {
		over, live := submitTo(t, b), submitTo(t, b)
		require.NoError(t, claimFrom(t, b, over).succeed(t.Context()))
		require.Eventually(t, func() bool { return b.Archived(over) && b.Purged() == 1 }, timeToWait, tick)
		rec := keyRecord{Job: live, Time: time.Now()}
		for _, key := range []string{"x", "y"} {
			require.NoError(t, b.setKeyRecord(t.Context(), keyName("", key), rec, true))
		}
		b.dropKey(t.Context(), keyName("", "x"), rec)
		b.beginLife(t.Context(), b.head) // the first one's record is replaced
		return []job.ID{over, live}
	})
	for _, stream := range []string{jobsStream, keysStream, "KV_" + settingsBucket} {
		name := filepath.Join(streamsIn(f.dir), stream, "msgs", "1.blk")
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(name, flip(80)(data), 0o600)) // in the first message
	}
	_, found := verified(t, f.dir)
	require.Len(t, found, 3)
	for _, f := range found {
		require.Contains(t, f.Then, "not kept any more", "%v", f)
	}
	lost, _ := f.lostIn(t, f.dir)
	require.Zero(t, lost)
}

// flip returns what flips a bit.
func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 1
		return b
	}
}

// A store that a server has open is not looked at, and where there is none nothing is made.
func TestVerifyOnlyWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	_, err := Verify(t.Context(), dir, nil, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Empty(t, sums(t, dir))
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	defer s.close()
	_, err = Verify(t.Context(), dir, nil, nil)
	require.ErrorIs(t, err, ErrInUse)
}

// lostIn starts on a store and returns how many jobs are not as they were, and how much
// damage was logged.
func (f *filled) lostIn(t *testing.T, dir string) (lost, said int) {
	t.Helper()
	core, logs := observer.New(zap.ErrorLevel)
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.New(core)})
	require.NoError(t, err)
	b, found := reopen(t, s, 48*time.Hour)
	for id, want := range f.events {
		got, err := eventsOf(t, b, id)
		if err != nil || !startsWith(got, want) || !readable(t, b, id) {
			lost++
		}
	}
	lost += f.forgotten(t, b)
	return lost, logs.Len() + found.FilterLevelExact(zap.ErrorLevel).Len()
}

// readable reports whether the result of a job can be read, if it has one.
func readable(t *testing.T, b *Broker, id job.ID) bool {
	j, err := b.Job(t.Context(), id)
	if err != nil || j.Result == nil || j.Result.Size == 0 {
		return err == nil
	}
	r, err := b.Result(t.Context(), j)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	return err == nil
}

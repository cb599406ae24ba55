package broker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func ignored(int64, int64) {}

// backedUpOf returns a backup of the store in dir.
func backedUpOf(t *testing.T, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	var last, total int64
	c, err := Backup(t.Context(), dir, &b, func(d, n int64) { last, total = d, n })
	require.NoError(t, err)
	require.Equal(t, c.Bytes, last)
	require.Equal(t, total, last)
	return b.Bytes()
}

// A store that was put back is the same: its files, its jobs and their results.
func TestBackup(t *testing.T) {
	f := fillWith(t, fillLarge)
	require.NoError(t, os.Mkdir(filepath.Join(f.dir, asideDir), 0o700)) // what is no part of the store stays away
	require.NoError(t, os.WriteFile(filepath.Join(f.dir, asideDir, "JOBS-1.blk"), nil, 0o600))
	packed := backedUpOf(t, f.dir)
	dir := filepath.Join(t.TempDir(), "a", "data")
	c, err := Restore(t.Context(), dir, bytes.NewReader(packed), ignored)
	require.NoError(t, err)
	want := sums(t, f.dir)
	delete(want, filepath.Join(asideDir, "JOBS-1.blk"))
	require.Equal(t, want, sums(t, dir))
	require.Equal(t, len(want)-1, c.Files, "all but the lock")
	onlyOurs(t, dir)
	checked, found := verified(t, dir)
	require.Empty(t, found)
	require.Equal(t, 3, checked.Live)
	lost, said := f.lostIn(t, dir)
	require.Zero(t, lost)
	require.Zero(t, said)
}

// onlyOurs fails if anybody else may read what is in dir.
func onlyOurs(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		require.Zero(t, info.Mode().Perm()&0o077, name)
		return err
	}))
}

// A store that a server has open is not copied, and one that is there is not written over.
func TestBackupOfAnOpenStore(t *testing.T) {
	dir := t.TempDir()
	s, err := openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	require.NoError(t, err)
	_, err = Backup(t.Context(), dir, io.Discard, ignored)
	require.ErrorIs(t, err, ErrInUse)
	s.close()
	before := sums(t, dir)
	_, err = Restore(t.Context(), dir, bytes.NewReader(backedUpOf(t, dir)), ignored)
	require.ErrorContains(t, err, "not empty")
	require.Equal(t, before, sums(t, dir))
}

// While a store is put back no server can open it.
func TestRestoreIsAlone(t *testing.T) {
	packed := backedUpOf(t, fillStore(t).dir)
	dir := filepath.Join(t.TempDir(), "data")
	var refused error
	_, err := Restore(t.Context(), dir, bytes.NewReader(packed), func(int64, int64) {
		_, refused = openEmbedded(t.Context(), Options{Dir: dir, MaxStore: 1 << 30, Log: zap.NewNop()})
	})
	require.NoError(t, err)
	require.ErrorIs(t, refused, errLocked)
}

// Of what is not a whole backup nothing is left.
func TestRestoreRefuses(t *testing.T) {
	f := fillStore(t)
	packed := backedUpOf(t, f.dir)
	refuse := func(t *testing.T, backup []byte) {
		t.Helper()
		parent := t.TempDir()
		_, err := Restore(t.Context(), filepath.Join(parent, "data"), bytes.NewReader(backup), ignored)
		require.ErrorIs(t, err, ErrBackup)
		left, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Empty(t, left)
	}
	for size := 0; size < len(packed); size += 1 + len(packed)/50 {
		refuse(t, packed[:size])
	}
	refuse(t, packed[:len(packed)-1])
	refuse(t, append(bytes.Clone(packed), packed...))
	// Some bits of a compressed stream say nothing of what is in it (the size of a window, the
	// filling of a last byte): then what is put back is the same.
	refuse(t, flip(0)(bytes.Clone(packed)))
	const windowAt = 5
	same := 0
	for i := range 50 {
		changed := flip(windowAt + (len(packed)-windowAt)/50*i)(bytes.Clone(packed))
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(t.Context(), dir, bytes.NewReader(changed), ignored); err != nil {
			refuse(t, changed)
			continue
		}
		require.Equal(t, sums(t, f.dir), sums(t, dir), i)
		same++
	}
	require.Less(t, same, 10)
	for name, change := range map[string]func([]member) []member{
		"a file is gone":       func(e []member) []member { return append(e[:1:1], e[2:]...) },
		"a file is changed":    func(e []member) []member { e[1].body = flip(0)(e[1].body); return e },
		"a file comes twice":   func(e []member) []member { return append(e[:2:2], e[1:]...) },
		"a file too many":      added(tar.Header{Name: "jetstream/$G/streams/JOBS/msgs/77.blk"}),
		"a file unknown":       added(tar.Header{Name: "jetstream/$G/streams/JOBS/msgs/run.sh"}),
		"a way out":            added(tar.Header{Name: "jetstream/$G/streams/JOBS/msgs/../../../../../../1.blk"}),
		"an absolute name":     added(tar.Header{Name: "/jetstream/$G/streams/JOBS/msgs/77.blk"}),
		"a symbolic link":      added(tar.Header{Name: "jetstream/$G/streams/KEYS/msgs/77.blk", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"a hard link":          added(tar.Header{Name: "jetstream/$G/streams/KEYS/msgs/77.blk", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
		"a directory":          added(tar.Header{Name: "jetstream/$G/streams/KEYS/msgs/77.blk", Typeflag: tar.TypeDir}),
		"another format":       func(e []member) []member { e[0].body = []byte(`{"format":2}`); return e },
		"no list":              func(e []member) []member { return e[:len(e)-1] },
		"more behind":          func(e []member) []member { return append(e, e[0]) },
		"nothing but a list":   func(e []member) []member { return []member{e[0], {tar.Header{Name: backupList}, []byte("[]")}} },
		"no backup, but a tar": func(e []member) []member { return e[1:] },
	} {
		t.Run(name, func(t *testing.T) { refuse(t, pack1(t, change(unpack1(t, packed)))) })
	}
}

// A restore that is interrupted leaves nothing, and an empty directory as it was.
func TestRestoreInterrupted(t *testing.T) {
	packed := backedUpOf(t, fillStore(t).dir)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	_, err := Restore(ctx, dir, bytes.NewReader(packed), func(int64, int64) { cancel(stop) })
	require.ErrorIs(t, err, stop)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	_, err = Restore(t.Context(), dir, bytes.NewReader(packed), ignored)
	require.NoError(t, err, "it can be tried again")
}

// member is a file of a tar.
type member struct {
	head tar.Header
	body []byte
}

// added returns what puts a file behind the first ones.
func added(h tar.Header) func([]member) []member {
	return func(e []member) []member { return append(append(e[:2:2], member{head: h}), e[2:]...) }
}

func unpack1(t *testing.T, packed []byte) (all []member) {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		body, err := io.ReadAll(r)
		require.NoError(t, err)
		all = append(all, member{*h, body})
	}
}

func pack1(t *testing.T, all []member) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	for _, e := range all {
		e.head.Size, e.head.Mode, e.head.Format = int64(len(e.body)), 0o600, tar.FormatUnknown
		require.NoError(t, w.WriteHeader(&e.head))
		_, err := w.Write(e.body)
		require.NoError(t, err)
	}
	require.NoError(t, errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}

// Where a restore was killed nobody begins with an empty store.
func TestRestoreKilled(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, restoring, "jetstream"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600))
	_, err := Open(t.Context(), Options{Dir: dir, MaxStore: 1 << 30})
	require.ErrorContains(t, err, "did not come to its end")
	_, err = os.Stat(streamsIn(dir))
	require.ErrorIs(t, err, os.ErrNotExist)
}

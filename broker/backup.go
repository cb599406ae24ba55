package broker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"regexp"

	"github.com/klauspost/compress/zstd"

	"github.com/millstream/millstream/pkg/job"
)

// A backup is a tar, zstd, of the files that make a store:
//
//	millstream.json  {"format":1,"bytes":…}     what follows; the sizes of all files
//	jetstream/…, CLEAN                          the files
//	manifest.json    [{"name":…,"size":…,"sha256":…}, …]
//
// The list is last, so that a backup is written, and put back, in one pass; one that is
// cut has none.
const (
	backupHead   = "millstream.json"
	backupList   = "manifest.json"
	backupFormat = 1
)

// backupFile are the names of files that may be in a backup. The rest is of no use to another
// process (LOCK, consumers of this one), or no part of the store (what was damaged).
var backupFile = regexp.MustCompile(`^(CLEAN|jetstream/\$G/streams/(JOBS|DONE|KEYS|HOOKS|KV_MILLSTREAM)/(meta\.(inf|sum)|(msgs|__new_msgs__)/([1-9][0-9]{0,9}\.blk|index\.db|thw\.db|sched\.db)))$`)

// backedUp is what the first file of a backup says.
type backedUp struct {
	Format int   `json:"format"`
	Bytes  int64 `json:"bytes"`
}

// listed is a file in the list.
type listed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Copied is what a backup has.
type Copied struct {
	Files int
	Bytes int64
}

// Backup writes the store in dir, which no server has open, to w. Damage is copied as it
// is: Verify finds it.
func Backup(ctx context.Context, dir string, w io.Writer, progress func(done, total int64)) (c Copied, err error) {
	unlock, err := holdStore(dir)
	if err != nil {
		return c, err
	}
	defer unlock()
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	b := &backup{ctx: ctx, dir: os.DirFS(dir), tar: tar.NewWriter(z), progress: progress}
	err = b.write()
	return b.Copied, err
}

type backup struct {
	Copied
	ctx      context.Context
	dir      fs.FS
	tar      *tar.Writer
	progress func(done, total int64)
	total    int64
	list     []listed
}

func (b *backup) write() error {
	names, err := b.files()
	if err != nil {
		return err
	}
	if err := b.text(backupHead, backedUp{backupFormat, b.total}); err != nil {
		return err
	}
	for _, name := range names {
		if err := b.file(name); err != nil {
			return err
		}
	}
	if err := b.text(backupList, b.list); err != nil {
		return err
	}
	return b.tar.Close()
}

// files returns the names of the files that make the store.
func (b *backup) files() (names []string, err error) {
	err = fs.WalkDir(b.dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !backupFile.MatchString(name) {
			return err
		}
		info, err := d.Info()
		if err == nil {
			names = append(names, name)
			b.total += info.Size()
		}
		return err
	})
	return names, err
}

func (b *backup) text(name string, v any) error {
	text := job.MustJSON(v)
	err := b.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(text))})
	if err == nil {
		_, err = b.tar.Write(text)
	}
	return err
}

func (b *backup) file(name string) error {
	f, err := b.dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: info.Size(), ModTime: info.ModTime()}
	if err := b.tar.WriteHeader(head); err != nil {
		return err
	}
	sum := sha256.New()
	to := io.MultiWriter(b.tar, sum, &counter{ctx: b.ctx, done: &b.Bytes, total: b.total, progress: b.progress})
	if _, err := io.Copy(to, f); err != nil {
		return err
	}
	b.Files++
	b.list = append(b.list, listed{name, info.Size(), sumOf(sum)})
	return nil
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// counter counts what is written, and ends it with ctx.
type counter struct {
	ctx      context.Context
	done     *int64
	total    int64
	progress func(done, total int64)
}

func (c *counter) Write(p []byte) (int, error) {
	*c.done += int64(len(p))
	c.progress(*c.done, c.total)
	return len(p), context.Cause(c.ctx)
}

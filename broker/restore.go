package broker

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// ErrBackup is the error of what is no backup, or not a whole one.
var ErrBackup = errors.New("not a whole backup")

func badBackup(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBackup}, args...)...)
}

// restoring is where, in the directory of the store, one is put back until it is whole.
const restoring = "restoring"

// Restore puts a backup back into dir, which must have nothing in it. No server can open it
// meanwhile, and if it fails nothing of it stays.
func Restore(ctx context.Context, dir string, r io.Reader, progress func(done, total int64)) (c Copied, err error) {
	_, err = os.Stat(dir)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return c, err
	}
	defer func() {
		if err != nil && fresh {
			_ = os.Remove(dir) // which is empty again
		}
	}()
	unlock, err := reserve(dir)
	if err != nil {
		return c, err
	}
	defer unlock()
	s := &restore{ctx: ctx, dir: filepath.Join(dir, restoring), progress: progress, files: map[string]listed{}}
	err = s.read(r)
	if err == nil {
		err = s.finish(dir)
	}
	if err != nil {
		return c, errors.Join(err, os.RemoveAll(s.dir), os.Remove(filepath.Join(dir, "LOCK")))
	}
	return s.Copied, nil
}

// reserve locks a directory that has nothing in it.
func reserve(dir string) (unlock func(), err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" { // a volume of its own may have that
			return nil, fmt.Errorf("%s is not empty: it has %s", dir, e.Name())
		}
	}
	return lock(filepath.Join(dir, "LOCK"))
}

type restore struct {
	Copied
	ctx      context.Context
	dir      string
	progress func(done, total int64)
	total    int64
	files    map[string]listed
}

// read reads a backup to its end.
func (s *restore) read(r io.Reader) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	t := tar.NewReader(z)
	if err := s.head(t); err != nil {
		return err
	}
	for {
		h, err := t.Next()
		if err != nil {
			return badBackup("it ends before its list: %v", err)
		}
		if h.Name == backupList {
			break
		}
		if err := s.file(t, h); err != nil {
			return err
		}
	}
	if err := s.check(t); err != nil {
		return err
	}
	return atEnd(t, z)
}

// maxWindow bounds the memory that a backup can ask for: the writer's is 4 MiB.
const maxWindow = 32 << 20

// head reads what a backup begins with.
func (s *restore) head(t *tar.Reader) error {
	h, err := t.Next()
	if err != nil || h.Name != backupHead {
		return badBackup("it does not begin as one (%v)", err)
	}
	var b backedUp
	if err := json.NewDecoder(t).Decode(&b); err != nil {
		return badBackup("%s: %v", backupHead, err)
	}
	if b.Format != backupFormat {
		return badBackup("it has format %d, and this is for %d", b.Format, backupFormat)
	}
	s.total = b.Bytes
	return nil
}

// file puts one file back.
func (s *restore) file(t *tar.Reader, h *tar.Header) error {
	_, twice := s.files[h.Name]
	if h.Typeflag != tar.TypeReg || twice || !backupFile.MatchString(h.Name) {
		return badBackup("%q does not belong there", h.Name)
	}
	name := filepath.Join(s.dir, filepath.FromSlash(h.Name))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, sum, &counter{s.ctx, &s.Bytes, s.total, s.progress}), t)
	if err != nil && !errors.As(err, new(*fs.PathError)) && s.ctx.Err() == nil {
		err = badBackup("%s: %v", h.Name, err)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	s.Files++
	s.files[h.Name] = listed{h.Name, size, sumOf(sum)}
	return nil
}

// check holds what was put back to the list.
func (s *restore) check(t *tar.Reader) error {
	var list []listed
	if err := json.NewDecoder(t).Decode(&list); err != nil {
		return badBackup("%s: %v", backupList, err)
	}
	for _, want := range list {
		if s.files[want.Name] != want {
			return badBackup("%s is not as it was", want.Name)
		}
	}
	if len(list) != len(s.files) {
		return badBackup("%d files, and %d in its list", len(s.files), len(list))
	}
	return nil
}

// atEnd reports what comes behind the list: the end of the tar, and of what was packed.
func atEnd(t *tar.Reader, z io.Reader) error {
	if _, err := t.Next(); err != io.EOF {
		return badBackup("there is more behind its list (%v)", err)
	}
	if n, err := io.Copy(io.Discard, z); n > 0 || err != nil {
		return badBackup("there is more behind its end (%v)", err)
	}
	return nil
}

// finish puts what was read into its place. The streams come last: with them it is a store.
func (s *restore) finish(dir string) error {
	const streams = "jetstream"
	if _, err := os.Stat(filepath.Join(s.dir, streams)); err != nil {
		return badBackup("it has no streams")
	}
	if _, ok := s.files[cleanFile]; ok {
		if err := os.Rename(filepath.Join(s.dir, cleanFile), filepath.Join(dir, cleanFile)); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(s.dir, streams), filepath.Join(dir, streams)); err != nil {
		return errors.Join(err, remove(filepath.Join(dir, cleanFile)))
	}
	if err := os.Remove(s.dir); err != nil {
		return err
	}
	return syncAll(dir)
}

// syncAll makes what was put back outlive a loss of power, as far as the system can.
func syncAll(dir string) error {
	sync, close, err := syncFS(dir)
	if err != nil {
		return nil // each file was synced
	}
	defer close()
	return sync()
}

//go:build unix

package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// lockDir locks a directory that is ours, for as long as the file is open. It fails
// with errTaken if another process has it, has removed it, or owns it.
func lockDir(path string) (*os.File, error) {
	if info, err := os.Lstat(path); err != nil || !ours(info) {
		return nil, errTaken
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errTaken
	case err != nil:
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = errTaken
	case err != nil:
		err = fmt.Errorf("lock: %w", err)
	case !stillAt(path, f):
		err = errTaken
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ours reports whether this is a directory, and no link to one, that our user made:
// in a directory for temporary files anybody may make one, but nobody can give it
// to another or put something else in its place.
func ours(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int(s.Uid) == os.Geteuid()
}

// stillAt reports whether the open file is what lies at path now.
func stillAt(path string, f *os.File) bool {
	opened, err1 := f.Stat()
	there, err2 := os.Lstat(path)
	return errors.Join(err1, err2) == nil && os.SameFile(opened, there)
}

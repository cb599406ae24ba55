package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// workDir is the directory of one attempt at a command, made for it and gone after
// it. It lies among the system's temporary files and not beside the store: a command
// may fill the disk it writes to, and a store whose disk is full takes no jobs.
//
// The process holds a lock on it, which the system gives back however the process
// ends. So one that nobody has locked is left over from a process that was killed,
// and the next one removes it. A cleaner of temporary files that knows locks
// (systemd-tmpfiles) leaves the others alone, however old they are.
type workDir struct {
	path string
	lock *os.File // nil where there are no locks
}

const (
	// workPrefix begins the names of these directories, and of nothing else.
	workPrefix = "millstream-work-"

	// workTries is how often a directory is made. It is lost only to a process that
	// starts, and sweeps, between two system calls.
	workTries = 10
)

// errTaken is the error of a lock on a directory that another process has locked,
// or has removed.
var errTaken = errors.New("another process has it")

func newWorkDir() (*workDir, error) {
	for range workTries {
		path, err := os.MkdirTemp("", workPrefix)
		if err != nil {
			return nil, err
		}
		lock, err := lockDir(path)
		if !errors.Is(err, errTaken) { // a file system without locks is swept by nobody
			return &workDir{path, lock}, nil
		}
	}
	return nil, errTaken
}

// remove removes the directory with all that is in it.
func (d *workDir) remove() error {
	err := removeAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}

// removeAll is os.RemoveAll for what a command has left, which may be directories
// that nobody may write to (Go's module cache is). No symbolic link is followed.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if root, err := os.OpenRoot(dir); err == nil {
		_ = fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
			if e != nil && e.IsDir() && err == nil {
				_ = root.Chmod(path, 0o700)
			}
			return nil // what cannot be opened up, RemoveAll tells
		})
		root.Close()
	}
	return os.RemoveAll(dir)
}

var swept sync.Once

// sweepOnce removes what killed processes have left, once in the life of this one.
// Its first command does not wait for it: there may be much.
func sweepOnce(log *zap.Logger) { swept.Do(func() { go sweep(log) }) }

// sweep removes the directories of ours that nobody has locked. Those of others, and
// what only has such a name, it leaves alone.
func sweep(log *zap.Logger) {
	temp := os.TempDir()
	entries, _ := os.ReadDir(temp) // what was read counts
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), workPrefix) {
			continue
		}
		path := filepath.Join(temp, e.Name())
		lock, err := lockDir(path)
		if err != nil || lock == nil {
			continue
		}
		if err := (&workDir{path, lock}).remove(); err != nil {
			log.Warn("working directory of a killed process is left over", zap.Error(err))
		}
	}
}

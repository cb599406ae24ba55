package worker

import (
	"crypto/rand"
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
// Its name is the mark of the attempt, which no other has: what the command starts
// inherits it in its environment, and is found by it.
//
// The process holds a lock on it, which the system gives back however the process
// ends. So one that nobody has locked is left over from a process that was killed,
// and the next one ends what carries its mark and removes it. A cleaner of temporary
// files that knows locks (systemd-tmpfiles) leaves the others alone, however old they
// are.
type workDir struct {
	mark string
	path string   // "" if there is none, and only the mark is needed
	lock *os.File // nil where there are no locks
}

const (
	// workPrefix begins the names of these directories, and of nothing else.
	workPrefix = "millstream-work-"

	// markName is the variable that the mark of an attempt is in.
	markName = "MILLSTREAM_RUN"

	// workTries is how often a directory is made. It is lost only to a process that
	// starts, and sweeps, between two system calls.
	workTries = 10
)

// errTaken is the error of a lock on a directory that another process has locked,
// or has removed.
var errTaken = errors.New("another process has it")

// newWorkDir makes a directory. With an error there is still its mark.
func newWorkDir() (*workDir, error) {
	for range workTries {
		mark := workPrefix + rand.Text()
		path := filepath.Join(os.TempDir(), mark)
		if err := os.Mkdir(path, 0o700); err != nil {
			return &workDir{mark: mark}, err
		}
		lock, err := lockDir(path)
		if !errors.Is(err, errTaken) { // a file system without locks is swept by nobody
			return &workDir{mark, path, lock}, nil
		}
	}
	return &workDir{mark: workPrefix + rand.Text()}, errTaken
}

// remove removes the directory with all that is in it.
func (d *workDir) remove() error {
	if d.path == "" {
		return nil
	}
	err := removeAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}

// gone is the end of a directory that nobody needs any more.
func (d *workDir) gone(log *zap.Logger) {
	if err := d.remove(); err != nil {
		log.Warn("working directory is left over", zap.Error(err))
	}
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

// sweepOnce ends and removes what killed processes have left, once in the life of
// this one. No command of ours meets what is left of the last attempt at its job; for
// the files none waits: there may be many.
func sweepOnce(log *zap.Logger) {
	swept.Do(func() {
		dirs := abandoned()
		marks := make([]string, len(dirs))
		for i, d := range dirs {
			marks[i] = d.mark
		}
		if n := killMarked(marks...); n > 0 {
			log.Warn("commands of a killed process were still running, and are now ended", zap.Int("processes", n))
		}
		go removeDirs(dirs, log)
	})
}

// abandoned returns the directories of ours that nobody has locked; now we have.
// Those of others, and what only has such a name, it leaves alone.
func abandoned() (dirs []*workDir) {
	temp := os.TempDir()
	entries, _ := os.ReadDir(temp) // what was read counts
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), workPrefix) {
			continue
		}
		path := filepath.Join(temp, e.Name())
		if lock, err := lockDir(path); err == nil && lock != nil {
			dirs = append(dirs, &workDir{e.Name(), path, lock})
		}
	}
	return dirs
}

func removeDirs(dirs []*workDir, log *zap.Logger) {
	for _, d := range dirs {
		if err := d.remove(); err != nil {
			log.Warn("working directory of a killed process is left over", zap.Error(err))
		}
	}
}

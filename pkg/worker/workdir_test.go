//go:build unix

package worker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// temp makes a directory for temporary files, and returns what is in it.
func temp(t *testing.T) (dir string, names func() []string) {
	dir = t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir, func() (names []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
}

// abandon lets go of a directory as the system does when the process is killed.
func (d *workDir) abandon() { d.lock.Close() }

func TestSweepRemovesOnlyWhatIsLeftOver(t *testing.T) {
	dir, names := temp(t)
	used, err := newWorkDir()
	require.NoError(t, err)
	left, err := newWorkDir()
	require.NoError(t, err)
	outside := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(left.path, "a/b"), 0o700))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(left.path, "a/link")))
	left.abandon()

	file, link, other := workPrefix+"file", workPrefix+"link", "millstream-1"
	require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o600))
	require.NoError(t, os.Symlink(filepath.Dir(outside), filepath.Join(dir, link)))
	require.NoError(t, os.Mkdir(filepath.Join(dir, other), 0o700))
	removeDirs(abandoned(), zap.NewNop())
	require.ElementsMatch(t, []string{filepath.Base(used.path), file, link, other}, names())
	require.FileExists(t, outside)

	require.NoError(t, used.remove())
	require.NoDirExists(t, used.path)
}

// A directory that another process of ours sweeps in the moment it is made is not
// worked in.
func TestLockIsLostToASweep(t *testing.T) {
	dir, _ := temp(t)
	path := filepath.Join(dir, workPrefix+"new")
	require.NoError(t, os.Mkdir(path, 0o700))
	sweeper, err := lockDir(path)
	require.NoError(t, err)
	_, err = lockDir(path)
	require.ErrorIs(t, err, errTaken, "it is being removed")
	require.NoError(t, os.Remove(path))
	_, err = lockDir(path)
	require.ErrorIs(t, err, errTaken, "it is gone")
	require.NoError(t, os.Mkdir(path, 0o700))
	require.False(t, stillAt(path, sweeper), "another one has its name")
	require.NoError(t, sweeper.Close())
}

// What a command has made read-only goes too. (For root nothing is.)
func TestReadOnlyDirectoriesAreRemoved(t *testing.T) {
	temp(t)
	d, err := newWorkDir()
	require.NoError(t, err)
	module := filepath.Join(d.path, "go/pkg/mod/module")
	require.NoError(t, os.MkdirAll(module, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(module, "file"), nil, 0o400))
	require.NoError(t, os.Chmod(module, 0o500))
	require.NoError(t, os.Chmod(filepath.Dir(module), 0o000))
	require.NoError(t, d.remove())
	require.NoDirExists(t, d.path)
}

package broker

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFS returns what syncs the file system of dir: all streams, whatever files they
// are in, and the directories. Since Linux 5.8 it reports what could not be written
// since it was asked last.
func syncFS(dir string) (sync func() error, close func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	return func() error { return unix.Syncfs(int(f.Fd())) }, func() { _ = f.Close() }, nil
}

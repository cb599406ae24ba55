//go:build linux || darwin

package broker

import "golang.org/x/sys/unix"

// diskOf returns the bytes that are free for us in the file system of dir, and how
// many it has.
func diskOf(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}

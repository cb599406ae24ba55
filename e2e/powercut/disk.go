// Package powercut cuts the power of a machine whose disk has a volatile write cache, and
// looks for what the machine had told its clients. It needs root; see TestMain.
package powercut

import (
	"context"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const (
	// pageSize is what a disk writes whole, or not at all.
	pageSize = 4096
	// flushTime is what a flush takes on a good disk. Meanwhile others write on.
	flushTime = 3 * time.Millisecond
	// diskSize is more than any run writes; only what is written takes memory.
	diskSize = 2 << 30
)

// page is what a disk has in one place. It is replaced and never changed.
type page *[pageSize]byte

// written is a page in the cache.
type written struct {
	number int64
	page   page
}

// disk is a file that behaves as a disk does: what is written can be read at once, but is
// safe only when it was flushed, as the loop device does when a file system asks for it.
type disk struct {
	fs.Inode

	flushing sync.Mutex // one flush at a time

	mu        sync.Mutex
	now, safe map[int64]page
	cache     []written // that no flush has made safe, in order
}

func newDisk() *disk { return &disk{now: map[int64]page{}, safe: map[int64]page{}} }

// busy waits until the cache has so many pages, but not for long.
func (d *disk) busy(pages int) {
	most, look := time.After(50*flushTime), time.NewTicker(flushTime/30)
	defer look.Stop()
	for d.cached() < pages {
		select {
		case <-look.C:
		case <-most:
			return
		}
	}
}

func (d *disk) cached() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.cache)
}

// remains is what a loss of power left.
type remains struct {
	*disk
	cached, kept int // pages
}

// cut returns what is left of the disk after a loss of power now: what was flushed, and of
// the pages in the cache about so many percent, whichever. At that moment it calls now. The
// disk itself goes on, for whoever still writes to it; nobody will see that.
func (d *disk) cut(percent int, r *rand.Rand, now func()) remains {
	d.mu.Lock()
	defer d.mu.Unlock()
	now()
	left := remains{&disk{now: maps.Clone(d.safe), safe: maps.Clone(d.safe)}, len(d.cache), 0}
	for _, w := range d.cache {
		if r.IntN(100) < percent {
			left.now[w.number], left.safe[w.number] = w.page, w.page
			left.kept++
		}
	}
	return left
}

func (d *disk) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, diskSize
	return 0
}

func (d *disk) Setattr(ctx context.Context, f fs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return d.Getattr(ctx, f, out)
}

// Open has the kernel keep no pages of the file: it would be a cache that is not cut.
func (d *disk) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (d *disk) Read(_ context.Context, _ fs.FileHandle, to []byte, at int64) (fuse.ReadResult, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	to = to[:max(0, min(int64(len(to)), diskSize-at))]
	for rest := to; len(rest) > 0; {
		number, from := at/pageSize, at%pageSize
		n := min(len(rest), int(pageSize-from))
		if p := d.now[number]; p != nil {
			copy(rest[:n], p[from:])
		} else {
			clear(rest[:n])
		}
		rest, at = rest[n:], at+int64(n)
	}
	return fuse.ReadResultData(to), 0
}

func (d *disk) Write(_ context.Context, _ fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at+int64(len(data)) > diskSize {
		return 0, syscall.ENOSPC
	}
	for rest := data; len(rest) > 0; {
		number, from := at/pageSize, at%pageSize
		p := new([pageSize]byte)
		if was := d.now[number]; was != nil {
			*p = *was
		}
		n := copy(p[from:], rest)
		d.now[number] = p
		d.cache = append(d.cache, written{number, p})
		rest, at = rest[n:], at+int64(n)
	}
	return uint32(len(data)), 0
}

// Fsync makes safe what was written before it began, as late as it may.
func (d *disk) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.mu.Lock()
	n := len(d.cache)
	d.mu.Unlock()
	<-time.After(flushTime)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.cache[:n] {
		d.safe[w.number] = w.page
	}
	d.cache = slices.Delete(d.cache, 0, n)
	return 0
}

func (d *disk) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 } // a close is none

// disks is a directory of disks, as files.
type disks struct {
	dir    string
	root   fs.Inode
	server *fuse.Server
}

// serveDisks serves an empty directory of disks at dir.
func serveDisks(dir string) (*disks, error) {
	d := &disks{dir: dir}
	server, err := fs.Mount(dir, &d.root, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 512 << 10}})
	d.server = server
	return d, err
}

// add puts a disk into the directory and returns its file.
func (d *disks) add(name string, one *disk) string {
	child := d.root.NewPersistentInode(context.Background(), one, fs.StableAttr{Mode: syscall.S_IFREG})
	d.root.AddChild(name, child, true)
	return filepath.Join(d.dir, name)
}

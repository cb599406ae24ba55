// Package reader holds many streams open and counts what comes, for as little as
// can be: raw sockets, one thread, one byte of state a stream. What it costs is
// then not what is measured, although both share the machine.
package reader

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/millstream/millstream/bench/internal/payload"
)

// Config says what to read.
type Config struct {
	Address string   // of the server
	Paths   []string // one stream each
	Nap     time.Duration
	Age     bool // look at the time in each event
}

// Reader is the role.
type Reader struct {
	config Config
	epoll  int
	ends   [1 << 15]byte // the last byte that came, by descriptor

	mu     sync.Mutex // protects the fields below
	more   *sync.Cond
	frames int // blank lines, so events
	wanted int // frames that somebody waits for
	closed int // streams that ended
	ages   []time.Duration
}

// Open opens the streams. They are counted from their first frame on.
func (r *Reader) Open(c Config, _ *struct{}) (err error) {
	r.config, r.more = c, sync.NewCond(&r.mu)
	if r.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	go r.loop()
	for _, path := range c.Paths {
		if err := r.open(path); err != nil {
			return fmt.Errorf("stream %s: %w", path, err)
		}
	}
	return nil
}

func (r *Reader) open(path string) error {
	fd, err := dial(r.config.Address)
	if err != nil {
		return err
	}
	if fd >= len(r.ends) {
		return syscall.EMFILE
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + r.config.Address + "\r\nAccept: text/event-stream\r\n\r\n"
	if _, err := syscall.Write(fd, []byte(request)); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	const edge = 1 << 31 // syscall.EPOLLET is negative
	return syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edge, Fd: int32(fd)})
}

// loop reads whatever comes, for ever.
func (r *Reader) loop() {
	runtime.LockOSThread()
	ready := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.EpollWait(r.epoll, ready, -1)
		if err != nil && err != syscall.EINTR {
			panic(err) // of a descriptor and memory that are our own
		}
		for i := range max(n, 0) {
			r.drain(int(ready[i].Fd), buf)
		}
		r.nap()
	}
}

// nap lets data pile up: whoever sleeps in the kernel's queue for each event is
// woken at the expense of the server that sends it, which no distant reader is.
func (r *Reader) nap() {
	if r.config.Nap > 0 {
		_ = syscall.Nanosleep(&syscall.Timespec{Nsec: r.config.Nap.Nanoseconds()}, nil)
	}
}

// drain reads all that a stream has.
func (r *Reader) drain(fd int, buf []byte) {
	for {
		n, err := syscall.Read(fd, buf)
		switch {
		case err == syscall.EAGAIN:
			return
		case n <= 0:
			r.end(fd)
			return
		}
		r.count(fd, buf[:n])
		if n < len(buf) {
			return // an edge will come for more
		}
	}
}

// count counts the ends of frames in b, the next bytes of a stream. Between two
// newlines there is nothing but in a frame's end: HTTP has its returns.
func (r *Reader) count(fd int, b []byte) {
	frames := bytes.Count(b, blank)
	if r.ends[fd] == '\n' && b[0] == '\n' {
		frames++
	}
	r.ends[fd] = b[len(b)-1]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config.Age {
		payload.Ages(b, time.Now(), func(d time.Duration) { r.ages = append(r.ages, d) })
	}
	if r.frames += frames; r.frames >= r.wanted {
		r.more.Signal()
	}
}

var blank = []byte("\n\n")

func (r *Reader) end(fd int) {
	_ = syscall.Close(fd)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed++
	r.more.Signal()
}

// patience is how long frames may take to come.
const patience = 20 * time.Second

// Wait returns once so many frames have come, since Open and of all streams.
func (r *Reader) Wait(frames int, _ *struct{}) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = frames
	late := false
	defer time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.more.Signal()
	}).Stop()
	for r.frames < frames && r.closed == 0 && !late {
		r.more.Wait()
	}
	if r.frames != frames || r.closed > 0 {
		return fmt.Errorf("%d frames in place of %d, %d streams cut", r.frames, frames, r.closed)
	}
	return nil
}

// Ages answers with how old the events were when they came, youngest first, and
// forgets them.
func (r *Reader) Ages(_ struct{}, ages *[]time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.ages)
	*ages, r.ages = r.ages, nil
	return nil
}

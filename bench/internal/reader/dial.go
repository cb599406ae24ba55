package reader

import (
	"net/netip"
	"syscall"
)

// dial connects a socket that Go's own poller knows nothing of: it would be woken
// for each event too.
func dial(address string) (fd int, err error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return 0, err
	}
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		_ = syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

//go:build !linux

package broker

import "errors"

// syncFS is not known here: the server syncs each write by itself.
func syncFS(string) (sync func() error, close func(), err error) {
	return nil, nil, errors.ErrUnsupported
}

//go:build !linux && !darwin

package broker

import "errors"

// diskOf is not known here: max_store alone bounds the store.
func diskOf(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }

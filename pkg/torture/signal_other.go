//go:build !unix

package torture

import (
	"errors"
	"os"
)

// canStop reports whether a process can be stopped for a while.
const canStop = false

func terminate(p *os.Process) error { return p.Kill() }

func freeze(int) error { return errors.ErrUnsupported }

func thaw(int) error { return errors.ErrUnsupported }

func killProcess(int) error { return errors.ErrUnsupported }

//go:build !linux

package torture

import (
	"errors"
	"os/exec"
)

func withUs(*exec.Cmd) {}

// children returns the processes that a process has started, where that can be seen.
func children(int) []int { return nil }

// canLimit reports whether the files of another process can be bounded.
const canLimit = false

func limitFiles(int, uint64) error { return errors.ErrUnsupported }

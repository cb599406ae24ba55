// Package gate is a package to run `go test` on: its second test passes only
// when somebody who has seen the first one pass opens the gate.
package gate

import (
	"os"
	"testing"
	"time"
)

func TestFirst(*testing.T) {}

func TestGate(t *testing.T) {
	for look := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-look.C:
			if _, err := os.Stat(os.Getenv("GATE")); err == nil {
				return
			}
		case <-t.Context().Done():
			return
		}
	}
}

package main

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/millstream/millstream/bench/internal/proc"
)

func TestMain(m *testing.M) {
	if played, err := proc.Main(roles()); played {
		if err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// TestMeasurements sees that each measurement comes to an end. It judges no figure:
// the machine that runs it has other things to do.
func TestMeasurements(t *testing.T) {
	for _, m := range measurements {
		t.Run(m.name, func(t *testing.T) {
			b := &bench{size: small, dir: t.TempDir()}
			err := errors.Join(m.run(b), b.clean(), b.report.write(io.Discard))
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

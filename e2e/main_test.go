package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var (
	soak = flag.Bool("soak", false, "run at full size what is cut short for CI")
	seed = flag.Uint64("seed", rand.Uint64(), "of everything random; printed where it matters")
)

func TestMain(m *testing.M) {
	flag.StringVar(&binary, "binary", "", "drive this millstream, instead of building one")
	flag.Parse()
	if binary != "" {
		os.Exit(m.Run())
	}
	os.Exit(withBinary(m.Run))
}

func withBinary(run func() int) int {
	dir, err := os.MkdirTemp("", "millstream-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "millstream")
	build := exec.Command("go", "build", "-o", binary, "./cmd/millstream")
	build.Dir, build.Stdout, build.Stderr = "..", os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "millstream does not build:", err)
		return 1
	}
	return run()
}

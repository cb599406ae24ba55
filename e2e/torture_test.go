package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// verdict is what `millstream torture --json` prints.
type verdict struct {
	Accepted, Ended, Erased, Events                           int
	Lost, Doubled, Reordered, Stuck, Late, Zombies, Surprises int
	Faults                                                    map[string]int
	Reasons                                                   []string
}

// lateAlone reports whether attempts that were missed too late are all that is wrong.
func (v verdict) lateAlone() bool {
	return v.Late > 0 && v.Lost+v.Doubled+v.Reordered+v.Stuck+v.Zombies+v.Surprises == 0
}

// torture runs `millstream torture` on a binary, and returns what it printed and ended
// with.
func torture(t *testing.T, seed int, duration, victim string) (v verdict, code int) {
	t.Helper()
	cmd := exec.Command(binary, "torture", "--json", "--seed", strconv.Itoa(seed), "--duration", duration, "--binary", victim)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.SysProcAttr = withUs
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Logf("%s", exit.Stderr)
		code = exit.ExitCode()
	} else {
		require.NoError(t, err)
	}
	require.NoError(t, json.Unmarshal(out, &v), "%s", out)
	return v, code
}

// The proof that is shipped holds for what is shipped.
func TestTorture(t *testing.T) {
	t.Parallel()
	seeds, duration := []int{1, 2}, "20s"
	if *soak {
		seeds, duration = []int{int(*seed >> 32)}, "1h"
	}
	for _, seed := range seeds {
		v, code := torture(t, seed, duration, binary)
		for again := 0; again < 2 && v.lateAlone() && !*soak; again++ { // a machine that stalls for two seconds does so now and then, a server that is late each time
			t.Logf("seed %d: %v", seed, v.Reasons)
			v, code = torture(t, seed, duration, binary)
		}
		require.Equal(t, 0, code, "seed %d: %v", seed, v.Reasons)
		require.Equal(t, v.Accepted, v.Ended+v.Erased)
		require.Positive(t, v.Events)
		t.Logf("seed %d: %d jobs, %d events read, faults %v", seed, v.Accepted, v.Events, v.Faults)
	}
}

// A proof that nothing can fail is none: builds that are broken on purpose do. What it
// takes to notice happens in each run, unless the machine is so slow that little does.
func TestTortureFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tag    string // see the files of that name in package broker
		seeds  []int
		column func(verdict) int
	}{
		{"broken_ack", []int{2, 3, 4, 8, 9}, func(v verdict) int { return v.Lost }},
		{"broken_fence", []int{5, 6, 7, 10, 11}, func(v verdict) int { return v.Zombies }},
	} {
		t.Run(tt.tag, func(t *testing.T) {
			victim := filepath.Join(t.TempDir(), "millstream")
			build := exec.Command("go", "build", "-tags", tt.tag, "-o", victim, "./cmd/millstream")
			build.Dir = ".."
			out, err := build.CombinedOutput()
			require.NoError(t, err, "%s", out)
			for _, seed := range tt.seeds {
				v, code := torture(t, seed, "15s", victim)
				if tt.column(v) > 0 {
					require.Equal(t, 1, code)
					t.Logf("%+v", v)
					return
				}
			}
			t.Fatalf("it goes unnoticed")
		})
	}
}

//go:build unix

package worker_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// A command that says 64 MiB and more without a newline needs no more memory than
// one that says little.
func TestExecNoiseIsBounded(t *testing.T) {
	for _, mode := range []worker.Stdout{worker.StdoutLines, worker.StdoutResult, worker.StdoutEvents} {
		t.Run(string(mode), func(t *testing.T) {
			e := helper("noise", "80")
			e.Stdout = mode
			var s forgetful
			a := s.attempt("")
			a.Sink = &s
			before := heap()
			out, err := worker.Run(t.Context(), e.Func(), a, worker.Options{})
			require.NoError(t, err)
			require.Less(t, s.most, before+16<<20)
			if r := out.Record.Private.Result; mode == worker.StdoutLines {
				require.True(t, r.Truncated)
				require.InDelta(t, 32<<20, r.Size, 24<<20, "stderr has its part of it")
			}
		})
	}
}

// forgetful is a sink that keeps only counts, and the most memory that was in use.
type forgetful struct {
	sink
	used  used
	calls int
	most  uint64
}

func (f *forgetful) Append(_ context.Context, recs ...job.Record) error {
	for _, r := range recs {
		f.used.events++
		f.used.bytes += int64(len(r.Data))
	}
	f.measure()
	return nil
}

func (f *forgetful) Attach(context.Context, []byte) error {
	f.measure()
	return nil
}

func (f *forgetful) Used() (int, int64) { return f.used.events, f.used.bytes }

func (f *forgetful) measure() {
	if f.calls++; f.calls%50 == 0 {
		f.most = max(f.most, heap())
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

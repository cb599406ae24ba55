package worker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/worker"
)

// A command that wants more memory than it may have fails, whoever of it wants it; and
// whatever it wants, the kernel takes it before the server.
func TestExecMemory(t *testing.T) {
	var s sink
	script := "head -c 1G /dev/zero | tail; cat /proc/self/oom_score_adj; ulimit -d; exit 7"
	_, err := s.exec(t, worker.Exec{Command: []string{"sh", "-c", script}, Memory: 64 << 20}, "")
	require.ErrorContains(t, err, "exit status 7")
	require.ErrorContains(t, err, "memory exhausted")
	require.Equal(t, "500\n65536\n", string(s.output(t)))
}

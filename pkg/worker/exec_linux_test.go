package worker

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a command has started before it was confined is confined too, however deep.
func TestConfineReachesWhatWasStarted(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & sh -c 'sleep 60 & wait' & wait")
	isolate(cmd)
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait()
	}()
	var all []int
	require.Eventually(t, func() bool {
		all = family(cmd.Process.Pid)
		return len(all) == 4
	}, 30*time.Second, time.Millisecond)
	confineAll(cmd.Process.Pid, 64<<20)
	for _, pid := range all {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		require.NoError(t, err)
		require.Regexp(t, `(?m)^Max data size +67108864 +67108864 `, string(limits))
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln(expendable), string(score))
	}
}

// family returns a process and all that it started.
func family(pid int) []int {
	all := []int{pid}
	for _, child := range children(pid) {
		all = append(all, family(child)...)
	}
	return all
}

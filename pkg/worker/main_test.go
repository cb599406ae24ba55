package worker_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// helperEnv makes the test binary a helper, where there are any.
const helperEnv = "WORKER_TEST_HELPER"

var runHelper func(args []string) int

// TestMain is also the command that the tests of Exec run: with helperEnv set the
// test binary is the helper that its first argument names.
func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(runHelper(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

package job_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

func TestDeep(t *testing.T) {
	nested := func(n int, inside string) []byte {
		return []byte(strings.Repeat(`{"a":[`, n/2) + inside + strings.Repeat("]}", n/2))
	}
	require.False(t, job.Deep([]byte(`1`)))
	require.False(t, job.Deep(nested(job.MaxDepth, "1")))
	require.True(t, job.Deep(nested(job.MaxDepth, "[]")))
	require.True(t, job.Deep(nested(job.MaxDepth, `"\\",{}`)))
	require.False(t, job.Deep(nested(job.MaxDepth, `"[\"[{\\"`)), "what is in a string")
	wide := strings.Repeat("[[]],", 1000)
	require.False(t, job.Deep([]byte("["+wide+"1]")), "what is beside it")
}

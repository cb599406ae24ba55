package client_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The code for Go in docs/clients.md is that of the example, which is compiled.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/clients.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, block)
	for line := range strings.Lines(string(block[1])) {
		require.Contains(t, string(example), "\t"+line)
	}
}

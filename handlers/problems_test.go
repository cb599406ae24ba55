package handlers

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// The document lists the problems that a request is answered with, each with its
// status, and no other.
func TestProblemsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/api.md")
	require.NoError(t, err)
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| ([0-9, ]+) \\| (`.*) \\|$").FindAllStringSubmatch(string(page), -1) {
		for _, name := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(row[2], -1) {
			documented[name[1]] = true
			require.Contains(t, row[1], strconv.Itoa(statuses[name[1]]), name[1])
		}
	}
	for name := range statuses {
		require.True(t, documented[name], name)
	}
	require.Len(t, documented, len(statuses))
}

// Every type of problem comes from somewhere: what no code makes has no page.
func TestProblemsAreMade(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"../handlers", "../broker", "../pkg"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			code.Write(b)
			return err
		}))
	}
	for name := range job.Titles {
		made := regexp.MustCompile(`(Problemf\(|problemPath \+ )"` + name + `"`)
		require.True(t, made.MatchString(code.String()), name)
	}
}

package e2e

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// edgeCases are those that docs/edge-cases.md has to have.
const edgeCases = 54

// Each of the edge cases stands in the table once, with what is done and a test that is there, in
// the package that is named.
func TestEdgeCases(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/edge-cases.md")
	require.NoError(t, err)
	tests := declared(t)
	seen := map[int]bool{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \|.*$`).FindAllStringSubmatch(string(page), -1) {
		cells := strings.Split(strings.Trim(row[0], "| "), " | ")
		n, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		require.False(t, seen[n], "%d stands there twice", n)
		seen[n] = true
		require.GreaterOrEqual(t, len(cells), 4, row[0])
		named := namedTests(cells[3])
		require.NotEmpty(t, named, row[0])
		for _, name := range named {
			require.True(t, tests[name], "%d: there is no %s", n, name)
		}
	}
	for n := 1; n <= edgeCases; n++ {
		require.True(t, seen[n], "%d is missing", n)
	}
	require.Len(t, seen, edgeCases)
}

// namedTests returns the tests of a cell, each behind its package: of "`pkg/x`: `TestA`, `TestB`;
// `TestC`" pkg/x.TestA, pkg/x.TestB and e2e.TestC.
func namedTests(cell string) (names []string) {
	for group := range strings.SplitSeq(cell, ";") {
		pkg := "e2e"
		for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(group, -1) {
			if regexp.MustCompile(`^(Test|Fuzz)[A-Z]`).MatchString(quoted[1]) {
				names = append(names, pkg+"."+quoted[1])
			} else {
				pkg = quoted[1]
			}
		}
	}
	return names
}

// declared returns the tests there are, each behind the directory of its package.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	for path, text := range sources(t, "_test.go") {
		dir, _, _ := strings.Cut(strings.TrimPrefix(path, "../"), "/"+path[strings.LastIndex(path, "/")+1:])
		for _, name := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllStringSubmatch(text, -1) {
			tests[dir+"."+name[1]] = true
		}
	}
	return tests
}

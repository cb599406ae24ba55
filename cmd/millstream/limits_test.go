package main

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// limit is a row of docs/limits.md that has a number, and says where it stands.
var limit = regexp.MustCompile("(?m)^\\|[^|]+\\| (\\d+)( [A-Za-z]+)?(?:, [^|]+)? \\|[^|]+\\| `([a-z/]+)`: `([\\w.]+)` \\|$")

// scale has the units of the page; a time is in nanoseconds.
var scale = map[string]int64{
	"": 1, " bytes": 1, " KiB": 1 << 10, " MiB": 1 << 20, " GiB": 1 << 30,
	" s": 1e9, " min": 60e9, " h": 3600e9, " days": 24 * 3600e9,
}

// The page on the limits has the numbers of the source.
func TestLimitsDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	require.NoError(t, err)
	rows := limit.FindAllStringSubmatch(string(page), -1)
	require.Len(t, rows, strings.Count(string(page), "`: `")-1, "a row that is not read; one has the default of a key")
	for _, row := range rows {
		n, err := strconv.ParseInt(row[1], 10, 64)
		require.NoError(t, err)
		require.Contains(t, scale, row[2], row[0])
		require.Equal(t, n*scale[row[2]], numberOf(t, row[3], row[4]), row[0])
	}
}

// numberOf returns the number that has a name in the source of a package: a constant's, or
// that of a member of a variable.
func numberOf(t *testing.T, dir, name string) (n int64) {
	files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
	require.NoError(t, err)
	fset, found := token.NewFileSet(), 0
	for _, path := range files {
		file, err := parser.ParseFile(fset, path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			if of := expressionOf(node, name); of != nil {
				if v, ok := evaluate(of); ok {
					n, found = v, found+1
				}
			}
			return true
		})
	}
	require.Equal(t, 1, found, "%s: %s", dir, name)
	return n
}

// expressionOf returns what a declaration sets a name to, or a member of it ("name.member");
// nil: node is none of it.
func expressionOf(node ast.Node, name string) ast.Expr {
	name, member, _ := strings.Cut(name, ".")
	spec, ok := node.(*ast.ValueSpec)
	if !ok || spec.Names[0].Name != name || len(spec.Values) != 1 {
		return nil
	}
	if literal, ok := spec.Values[0].(*ast.CompositeLit); ok {
		return memberOf(literal, member)
	}
	return spec.Values[0]
}

func memberOf(literal *ast.CompositeLit, name string) ast.Expr {
	for _, e := range literal.Elts {
		if e, ok := e.(*ast.KeyValueExpr); ok && types.ExprString(e.Key) == name {
			return e.Value
		}
	}
	return nil
}

var inNanoseconds = strings.NewReplacer("time.Second", "1000000000", "time.Minute", "60000000000", "time.Hour", "3600000000000")

// evaluate returns the value of an expression of numbers and times.
func evaluate(e ast.Expr) (int64, bool) {
	v, err := types.Eval(token.NewFileSet(), nil, token.NoPos, inNanoseconds.Replace(types.ExprString(e)))
	if err != nil || v.Value == nil {
		return 0, false
	}
	return constant.Int64Val(constant.ToInt(v.Value))
}

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                      nil,
		"  \t\n ":               nil,
		"wc -w":                 {"wc", "-w"},
		" wc\t -w \n":           {"wc", "-w"},
		`say 'a  b' "c  d"`:     {"say", "a  b", "c  d"},
		`a'b'"c"d`:              {"abcd"},
		`'' ""`:                 {"", ""},
		`x''`:                   {"x"},
		`a\ b \'c\' \\`:         {"a b", "'c'", `\`},
		`"a\"b" "a\b" "\\"`:     {`a"b`, `a\b`, `\`},
		`'a\b' '"'`:             {`a\b`, `"`},
		"a\\\nb":                {"ab"},
		"\"a\\\nb\"":            {"ab"},
		`sh -c 'wc | sort >x'`:  {"sh", "-c", "wc | sort >x"},
		`awk '{print $1}'`:      {"awk", "{print $1}"},
		`grep -c "^a.*\$" \$1`:  {"grep", "-c", "^a.*$", "$1"},
		`jq .a[0] ~/x *.txt #c`: {"jq", ".a[0]", "~/x", "*.txt", "#c"},
		"é 'ß'":                 {"é", "ß"},
	} {
		got, err := splitWords(line)
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
	}
}

func TestSplitWords_refuses(t *testing.T) {
	for line, want := range map[string]string{
		`'a`: "single quote", `"a`: "double quote", `"a\"`: "double quote", `a\`: "backslash",
		"a | b": "'|' is for a shell", "a && b": "for a shell", "a; b": "for a shell", "a > b": "for a shell", "a < b": "for a shell",
		"a $HOME": "for a shell", "a `b`": "for a shell", `a "$HOME"`: "for a shell", "a \"`b`\"": "for a shell", "(a)": "for a shell",
	} {
		_, err := splitWords(line)
		require.ErrorContains(t, err, want, line)
	}
}

func quoteWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func TestSplitWords_quotedIsItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "words")
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, quoteWord(w))
		}
		got, err := splitWords(strings.Join(quoted, " "))
		require.NoError(t, err)
		require.Equal(t, words, got)
	})
}

func FuzzSplitWords(f *testing.F) {
	for _, line := range []string{"wc -w", `a "b \" c" 'd'`, `a\`, "a | b", "''", "\"\\\n\""} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitWords(line)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, quoteWord(w))
		}
		again, err := splitWords(strings.Join(quoted, " "))
		require.NoError(t, err)
		require.Equal(t, words, again)
	})
}

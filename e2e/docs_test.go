package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write into the documents what their commands print")

// The documents show what is: each command of their terminal sessions is run, and
// prints what stands there. With -args -update it is written there.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"README.md", "docs/api.md", "docs/graphql.md"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("..", name)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			s := session{server: launch(t, binary, "serve"), real: map[string]string{}}
			got := consoles.ReplaceAllStringFunc(string(text), s.run)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
			}
		})
	}
}

// consoles are the terminal sessions in a document.
var consoles = regexp.MustCompile("(?ms)^```console\n.*?^```$")

// session is a terminal in which a document's commands are run, one by one.
type session struct {
	*server
	real map[string]string // what stands here for an id or a token in the document
}

// run runs the commands of one block and returns the block as it comes out.
func (s session) run(block string) string {
	lines := strings.Split(block, "\n")
	out := lines[:1:1]
	for i := 1; i < len(lines)-1; {
		command, rest := cut(lines[i:len(lines)-1], func(line string) bool { return !strings.HasSuffix(line, `\`) }, 1)
		want, rest := cut(rest, func(line string) bool { return strings.HasPrefix(line, "$ ") }, 0)
		i = len(lines) - 1 - len(rest)
		text := s.here(strings.Join(command, "\n"))
		out = append(out, text)
		if printed := s.check(strings.TrimPrefix(text, "$ "), strings.Join(want, "\n")); printed != "" {
			out = append(out, printed)
		}
	}
	return strings.Join(append(out, "```"), "\n")
}

// cut splits lines at the first that holds, and as many lines behind it.
func cut(lines []string, holds func(string) bool, behind int) (before, rest []string) {
	for i, line := range lines {
		if holds(line) {
			return lines[:i+behind], lines[i+behind:]
		}
	}
	return lines, nil
}

// check runs one command, holds what it prints against what the document has, and
// returns it.
func (s session) check(command, want string) string {
	const address = "127.0.0.1:8080"
	cmd := exec.CommandContext(s.t.Context(), "bash", "-c", strings.ReplaceAll(command, address, s.address()))
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "MILLSTREAM_SERVER="+s.base, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	b, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "%s\n%s", command, b)
	got := strings.TrimRight(strings.NewReplacer(s.address(), address, "\r", "").Replace(string(b)), "\n")
	if !*update {
		require.Equal(s.t, masked(want), masked(got), "$ %s", command)
	}
	s.learn(want, got)
	return got
}

// learn notes what stands here for each id and token of the document.
func (s session) learn(want, got string) {
	for _, name := range names {
		documented, real := name.FindAllString(passing.ReplaceAllString(want, "…"), -1), name.FindAllString(passing.ReplaceAllString(got, "…"), -1)
		for i := range min(len(documented), len(real)) {
			if s.real[documented[i]] == "" {
				s.real[documented[i]] = real[i]
			}
		}
	}
}

// here returns a command of the document with the ids of this run.
func (s session) here(command string) string {
	for _, name := range names {
		command = name.ReplaceAllStringFunc(command, func(documented string) string {
			return cmp.Or(s.real[documented], documented)
		})
	}
	return command
}

// names are what one command prints and a later one repeats: jobs, batches, cursors, tokens.
var names = []*regexp.Regexp{
	regexp.MustCompile(`(job|batch)_[0-9a-z]{26}`), regexp.MustCompile(`\b\d+-\d+-[1-9]\d{7,}\b`), regexp.MustCompile(`eyJ[\w.-]+`),
}

// passing is what else differs from run to run: times, the process that did the
// work, what headers say of them, jitter, and how far a job is that was just stored.
var passing = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z|"worker":"[0-9a-f]+"|(Date|Etag|Content-Length): .*|retry: \d+|"queue_position":(\d+|null)`)

func masked(text string) string {
	text = passing.ReplaceAllString(text, "…")
	for _, name := range names {
		text = name.ReplaceAllString(text, "…")
	}
	return text
}

// The page on the configuration has every key, with the default that holds.
func TestConfigurationDocument(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	require.NoError(t, err)
	cmd := exec.Command(binary, "config", "check")
	cmd.Dir = t.TempDir() // where no millstream.yaml is
	out, err := cmd.Output()
	require.NoError(t, err)
	var keys object
	require.NoError(t, yaml.Unmarshal(out, &keys))
	delete(keys, "kinds")
	for key, value := range flat("", keys) {
		documented := "none"
		if text := fmt.Sprint(value); text != "" && text != "[]" {
			documented = "`" + text + "`"
		}
		require.Contains(t, string(page), fmt.Sprintf("| `%s` | %s |", key, documented))
	}
}

// flat returns the scalars of a tree by their dotted names.
func flat(prefix string, tree object) object {
	scalars := object{}
	for key, value := range tree {
		if branch, ok := value.(object); ok {
			maps.Copy(scalars, flat(prefix+key+".", branch))
			continue
		}
		scalars[prefix+key] = value
	}
	return scalars
}

// What the documents point to is there: files, and the tests that prove promises.
func TestDocumentsPointSomewhere(t *testing.T) {
	t.Parallel()
	tests := sources(t, "_test.go")
	pages := 0
	for path, text := range sources(t, ".md") {
		pages++
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)[)#]`).FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(path), link[1]))
			require.NoError(t, err, path)
		}
		for _, name := range regexp.MustCompile("`(Test[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			declared := func(source string) bool { return strings.Contains(source, "func "+name[1]+"(") }
			require.True(t, slices.ContainsFunc(slices.Collect(maps.Values(tests)), declared), "%s: there is no %s", path, name[1])
		}
	}
	require.Greater(t, pages, 8)
}

// sources returns the project's files whose names end so, by path.
func sources(t *testing.T, suffix string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"): // in a worktree .git is a file
			return fs.SkipDir
		case strings.HasSuffix(path, suffix) && d.Type().IsRegular():
			text, err := os.ReadFile(path)
			files[path] = string(text)
			return err
		}
		return nil
	}))
	return files
}

package main

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed is the import graph of Millstream, row by row: a package may import
// those on its line and nothing else of this module. CONTRIBUTING.md draws it.
var allowed = map[string]string{
	"cmd/millstream": "broker pkg/client pkg/forward pkg/job pkg/millstream pkg/schema pkg/standardwebhooks pkg/torture pkg/worker",
	"examples/func":  "pkg/millstream",
	"examples/llm":   "",
	"pkg/millstream": "broker handlers pkg/access pkg/forward pkg/hub pkg/index pkg/janitor pkg/job pkg/queue pkg/standardwebhooks pkg/webhook pkg/worker",

	"handlers":          "handlers/graph pkg/access pkg/forward pkg/job pkg/schema pkg/sse pkg/tape",
	"handlers/graph":    "pkg/job",
	"broker":            "pkg/job",
	"broker/brokertest": "broker pkg/job pkg/queue",
	"pkg/hub":           "pkg/job pkg/tape",
	"pkg/queue":         "pkg/job",
	"pkg/index":         "pkg/job",
	"pkg/janitor":       "pkg/job",
	"pkg/webhook":       "pkg/job pkg/standardwebhooks",
	"pkg/worker":        "pkg/forward pkg/job pkg/sse",
	"pkg/client":        "pkg/job pkg/sse",
	"pkg/torture":       "",

	"pkg/access":           "pkg/job",
	"pkg/forward":          "pkg/job",
	"pkg/schema":           "pkg/job",
	"pkg/tape":             "pkg/job",
	"pkg/sse":              "",
	"pkg/standardwebhooks": "",
	"pkg/job":              "",
}

// owners names the packages that may import an outside library; others may not.
var owners = map[string]string{
	"github.com/gin-gonic/gin":           "handlers pkg/millstream",
	"github.com/99designs/gqlgen":        "handlers/graph",
	"github.com/vektah/gqlparser":        "handlers/graph",
	"github.com/santhosh-tekuri":         "pkg/schema",
	"github.com/ThreeDotsLabs/watermill": "broker broker/brokertest",
	"github.com/nats-io":                 "broker",
	"code.dny.dev/ssrf":                  "pkg/webhook",
	"github.com/knadh/koanf":             "cmd/millstream",
	"github.com/spf13":                   "cmd/millstream",
}

func TestImports(t *testing.T) {
	const root, module = "../..", "github.com/millstream/millstream/"
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(root, dir)
		if name == "bench" || name == "e2e" || name == "node_modules" || name != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir // modules of their own
		}
		p, err := build.ImportDir(dir, 0)
		if err != nil {
			return nil // no Go files
		}
		seen[name] = true
		check(t, name, module, p.Imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("the graph names %s, which does not exist", name)
		}
	}
}

func check(t *testing.T, name, module string, imports []string) {
	line, ok := allowed[name]
	if !ok {
		t.Errorf("package %s is not in the graph", name)
	}
	for _, path := range imports {
		if own, ok := strings.CutPrefix(path, module); ok && !slices.Contains(strings.Fields(line), own) {
			t.Errorf("%s must not import %s", name, own)
		}
		for library, who := range owners {
			if strings.HasPrefix(path, library) && !slices.Contains(strings.Fields(who), name) {
				t.Errorf("%s must not import %s: it belongs to %s", name, path, who)
			}
		}
	}
}

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The work of a release engineer: hash every file of a source tree.
func TestHashingAllOfNet(t *testing.T) {
	t.Parallel()
	files := filesBelow(t, filepath.Join(goEnv(t, "GOROOT"), "src", "net"))
	// It writes line by line: the beginning of a line, as in a block of 4 KiB, is shown without its
	// end where that takes a busy machine or a slow disk 50 ms.
	command := []string{"xargs", "-d", "\n", "stdbuf", "-oL", "sha256sum"}
	hash := exec.Command(command[0], command[1:]...)
	hash.Stdin = bytes.NewReader(files)
	want, err := hash.Output()
	require.NoError(t, err)

	s := start(t, object{"kinds": object{"hash": object{"exec": object{"command": command}}}})
	j := s.submitRaw("hash", "text/plain", files)
	events := s.events(j.ID, "").rest()

	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	require.Equal(t, string(want), string(s.result(j.ID).Body))
	require.Equal(t, string(want), output(t, events))
	for _, e := range events {
		if e.Type == "job.output" {
			require.True(t, strings.HasSuffix(e.field("chunk").(string), "\n"), "a line is torn: %s", e.raw)
		}
	}
}

// Events are there while the work goes on: the gate in the tested package opens
// only when its first event was read.
func TestGoTestStreams(t *testing.T) {
	t.Parallel()
	gate := filepath.Join(t.TempDir(), "open")
	here, err := os.Getwd()
	require.NoError(t, err)
	s := start(t, object{"kinds": object{"gotest": object{"exec": object{
		"command": []string{"go", "test", "-json", "-count=1", "./testdata/gate"},
		"dir":     here,
		"env": object{
			"GATE": gate, "PATH": os.Getenv("PATH"), "HOME": os.Getenv("HOME"), "GOFLAGS": goEnv(t, "GOFLAGS"),
			"GOCACHE": goEnv(t, "GOCACHE"), "GOPATH": goEnv(t, "GOPATH"), "GOPROXY": goEnv(t, "GOPROXY"),
		},
	}}}})
	j := s.submit("gotest", nil)
	st := s.events(j.ID, "")
	first := st.until("job.output")
	require.Equal(t, "running", s.job(j.ID).Status)
	require.NoError(t, os.WriteFile(gate, nil, 0o600))

	events := append([]event{first}, st.rest()...)
	require.Equal(t, "job.succeeded", events[len(events)-1].Type)
	text := output(t, events)
	require.Equal(t, text, string(s.result(j.ID).Body))
	for line := range strings.Lines(text) {
		require.True(t, json.Valid([]byte(line)), "%q", line)
	}
	require.Contains(t, text, `"Action":"pass","Package":"github.com/millstream/millstream/e2e/testdata/gate","Test":"TestGate"`)
}

// output puts together what the job's command wrote.
func output(t *testing.T, events []event) string {
	t.Helper()
	var b strings.Builder
	for _, e := range events {
		if e.Type != "job.output" {
			continue
		}
		chunk, ok := e.field("chunk").(string)
		require.True(t, ok, "%s", e.raw)
		if e.field("encoding") == "base64" {
			raw, err := base64.StdEncoding.DecodeString(chunk)
			require.NoError(t, err)
			chunk = string(raw)
		}
		b.WriteString(chunk)
	}
	return b.String()
}

// filesBelow lists the regular files of a tree, one a line, in order.
func filesBelow(t *testing.T, root string) []byte {
	t.Helper()
	var list bytes.Buffer
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			list.WriteString(path + "\n")
		}
		return err
	}))
	return list.Bytes()
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	b, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

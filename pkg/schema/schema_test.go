package schema_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/schema"
)

func TestCompileRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(file, []byte("{}"), 0o600))
	for _, doc := range []string{
		``, `{`, `5`, `{"type":"nonsense"}`, `{"$ref":"file://` + file + `"}`, `{"$ref":"https://schemas.example/a"}`, `{"$ref":"#/$defs/absent"}`,
	} {
		_, err := schema.Compile([]byte(doc))
		require.Error(t, err, doc)
	}
}

func TestCheck(t *testing.T) {
	s, err := schema.Compile([]byte(`{"type":"object","required":["at"],"properties":{"at":{"format":"date"},"n":{"maximum":9}}}`))
	require.NoError(t, err)
	for value, at := range map[string][]string{
		`{"at":"2026-11-22","n":9}`: nil,
		`{}`:                        {""},
		`{"at":"soon"}`:             {"/at"}, // formats are asserted
		`{"at":"soon","n":10}`:      {"/at", "/n"},
	} {
		require.ElementsMatch(t, at, misfits(t, s, value), value)
	}
	err = s.Check([]byte(`{"at":`))
	require.Error(t, err)
	require.NotErrorAs(t, err, new(*schema.Misfit))
}

// misfits returns the pointers to where value does not fit.
func misfits(t *testing.T, s *schema.Schema, value string) (at []string) {
	t.Helper()
	err := s.Check([]byte(value))
	if err == nil {
		return nil
	}
	var m *schema.Misfit
	require.ErrorAs(t, err, &m)
	for _, p := range m.Places {
		require.NotEmpty(t, p.Detail)
		at = append(at, p.Pointer)
	}
	return at
}

func TestCheckOfAValueThatNeverFits(t *testing.T) {
	for _, never := range []string{"false", `{"not":{}}`} {
		s, err := schema.Compile([]byte(never))
		require.NoError(t, err)
		require.ErrorAs(t, s.Check([]byte("1")), new(*schema.Misfit))
	}
}

func TestCheckTellsSomeOfManyErrors(t *testing.T) {
	s, err := schema.Compile([]byte(`{"items":{"type":"string"}}`))
	require.NoError(t, err)
	require.Len(t, misfits(t, s, "[1"+strings.Repeat(",1", 1000)+"]"), 32)
}

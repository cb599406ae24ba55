package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	encoder "go.yaml.in/yaml/v3"

	"github.com/millstream/millstream/pkg/schema"
)

// schema returns the JSON Schema that a kind's key holds or names, as JSON; nil
// for none.
func (s *settings) schema(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	if name, ok := v.(string); ok {
		text, err := readFile(s.path(name))
		if err != nil {
			return nil, err
		}
		if err := encoder.Unmarshal(text, &v); err != nil { // JSON is YAML
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, errors.New("is neither a JSON Schema nor the name of a file with one")
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	_, err = schema.Compile(b)
	return b, err
}

// maxFile bounds what the configuration names: a schema or a key, written by people.
const maxFile = 4 << 20

// readFile reads a file that the configuration names. What is no file, or has no end,
// is refused.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0: // a shell's <(…) is a pipe
		return nil, fmt.Errorf("%s is no file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return text, err
}

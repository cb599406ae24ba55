package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/santhosh-tekuri/jsonschema/v6"
	encoder "go.yaml.in/yaml/v3"
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
	return b, compile(b)
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

// compile tells whether b is a JSON Schema that the server will take. It loads nothing that b refers to: a
// schema must not read other files or ask other servers.
func compile(b []byte) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	const name = "schema.json"
	c := jsonschema.NewCompiler()
	c.UseLoader(nil)
	c.AssertFormat()
	if err := c.AddResource(name, doc); err != nil {
		return err
	}
	_, err = c.Compile(name)
	return err
}

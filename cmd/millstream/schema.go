package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
		text, err := os.ReadFile(s.path(name))
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

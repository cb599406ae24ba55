// Package schema is the JSON Schemas of kinds: which ones are taken, and what is
// said of a value that does not fit.
package schema

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/millstream/millstream/pkg/job"
)

// Schema is a JSON Schema, ready to check values.
type Schema struct{ compiled *jsonschema.Schema }

// Compile returns the schema that doc is. A $ref to a file or an address is an
// error: by default it would be opened.
func Compile(doc []byte) (*Schema, error) {
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		return nil, err
	}
	const self = "schema:input"
	c := jsonschema.NewCompiler()
	c.UseLoader(nil)
	c.AssertFormat()
	if err := c.AddResource(self, tree); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(self)
	if err != nil {
		return nil, err
	}
	return &Schema{compiled}, nil
}

// Misfit is the error of a value that does not fit.
type Misfit struct {
	Places []job.FieldError // where, and why
}

func (m *Misfit) Error() string { return fmt.Sprintf("does not fit in %d places", len(m.Places)) }

// maxPlaces are told at once; who has more to mend will ask again.
const maxPlaces = 32

// Check fails unless value is JSON that fits: with a *Misfit if it is JSON at all.
func (s *Schema) Check(value []byte) error {
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err != nil {
		return err
	}
	err = s.compiled.Validate(tree)
	var wrong *jsonschema.ValidationError
	if !errors.As(err, &wrong) {
		return err
	}
	m := new(Misfit)
	for _, unit := range wrong.BasicOutput().Errors {
		if unit.Error != nil && len(m.Places) < maxPlaces {
			m.Places = append(m.Places, job.FieldError{Pointer: unit.InstanceLocation, Detail: unit.Error.String()})
		}
	}
	return m
}

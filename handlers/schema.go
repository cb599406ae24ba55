package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sync/semaphore"

	"github.com/millstream/millstream/pkg/job"
)

const (
	// schemaBytes is how many bytes of inputs are checked at a time. A schema needs
	// its input decoded, which takes up to 46 times its bytes: here 46 MiB. Inputs of
	// the usual size never wait.
	schemaBytes = 1 << 20

	maxFieldErrors = 32 // told at once; who has more to mend will ask again
)

// kind is a kind with its schema compiled.
type kind struct {
	job.Kind
	input *jsonschema.Schema // nil: any input
}

// compile prepares the kinds.
func (a *API) compile() error {
	a.schemas = semaphore.NewWeighted(schemaBytes)
	a.kinds = map[string]*kind{}
	for name, k := range a.Kinds {
		schema, err := compile(k.Input)
		if err != nil {
			return fmt.Errorf("kind %s: input schema: %w", name, err)
		}
		a.kinds[name] = &kind{Kind: k.WithDefaults(), input: schema}
	}
	return nil
}

// compile returns the schema; nil if there is none. A $ref to a file or an
// address is an error: by default it would be opened.
func compile(schema []byte) (*jsonschema.Schema, error) {
	if len(schema) == 0 {
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, err
	}
	const self = "schema:input"
	c := jsonschema.NewCompiler()
	c.UseLoader(nil)
	c.AssertFormat()
	if err := c.AddResource(self, doc); err != nil {
		return nil, err
	}
	return c.Compile(self)
}

// fits fails unless the input fits the kind's schema. The pointers of its errors
// begin with at, the input's place in the body.
func (a *API) fits(ctx context.Context, k *kind, input []byte, at string) error {
	if k.input == nil {
		return nil
	}
	size := min(int64(len(input)), schemaBytes)
	if err := a.schemas.Acquire(ctx, size); err != nil {
		return err
	}
	defer a.schemas.Release(size)
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(input))
	if err != nil {
		return invalid(at, "is not JSON: %v", err)
	}
	err = k.input.Validate(v)
	var misfit *jsonschema.ValidationError
	if errors.As(err, &misfit) {
		return misfitProblem(k, misfit, at)
	}
	return err
}

func misfitProblem(k *kind, misfit *jsonschema.ValidationError, at string) *job.Problem {
	p := job.Problemf("invalid-input", "The input does not fit the schema of %s.", k.Name)
	for _, unit := range misfit.BasicOutput().Errors {
		if unit.Error != nil && len(p.Errors) < maxFieldErrors {
			p.Errors = append(p.Errors, job.FieldError{Pointer: at + clip(unit.InstanceLocation, maxEcho), Detail: clip(unit.Error.String(), maxEcho)})
		}
	}
	return p
}

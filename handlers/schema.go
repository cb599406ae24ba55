package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/schema"
)

// schemaBytes is how many bytes of inputs are checked at a time. A schema needs
// its input decoded, which takes up to 46 times its bytes: here 46 MiB. Inputs of
// the usual size never wait.
const schemaBytes = 1 << 20

// kind is a kind with its schema compiled.
type kind struct {
	job.Kind
	input *schema.Schema // nil: any input
	route *route         // whose requests its jobs are; nil: it is none
}

// compile prepares the kinds.
func (a *API) compile() error {
	a.schemas = semaphore.NewWeighted(schemaBytes)
	a.kinds = map[string]*kind{}
	for name, k := range a.Kinds {
		k.MaxInput = cmp.Or(k.MaxInput, a.Body)
		ready := &kind{Kind: k.WithDefaults()}
		if len(k.Input) > 0 {
			var err error
			if ready.input, err = schema.Compile(k.Input); err != nil {
				return fmt.Errorf("kind %s: input schema: %w", name, err)
			}
		}
		a.kinds[name] = ready
	}
	a.connect()
	return nil
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
	err := k.input.Check(input)
	var m *schema.Misfit
	switch {
	case errors.As(err, &m):
		return misfit(k, m, at)
	case err != nil:
		return invalid(at, "is not JSON: %v", err)
	}
	return nil
}

func misfit(k *kind, m *schema.Misfit, at string) *job.Problem {
	p := job.Problemf("invalid-input", "The input does not fit the schema of %s.", k.Name)
	for _, w := range m.Places {
		p.Errors = append(p.Errors, job.FieldError{Pointer: at + clip(w.Pointer, maxEcho), Detail: clip(w.Detail, maxEcho)})
	}
	return p
}

package graph

import (
	"bytes"
	"encoding/json"

	"github.com/99designs/gqlgen/graphql"

	"github.com/millstream/millstream/pkg/job"
)

// variables decodes the variables as the validator wants them.
func (r *Request) variables() (v map[string]any, err error) {
	if len(r.Variables) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(r.Variables))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, job.Problemf("invalid-request", "variables: must be an object")
	}
	return v, nil
}

// jsonName is the scalar whose values are kept as they are written.
const jsonName = "JSON"

// keepJSON puts back what was written where a variable, a member of one or a literal is JSON:
// that a map remembers no order must not change a job's input.
func (r *Request) keepJSON(of *graphql.OperationContext) error {
	written, err := membersOf(r.Variables)
	for _, v := range of.Operation.VariableDefinitions {
		raw, sent := written[v.Variable]
		switch {
		case err != nil:
			return err
		case !sent:
		case v.Type.NamedType == jsonName:
			of.Variables[v.Variable] = raw
		case v.Definition != nil && of.Variables[v.Variable] != nil:
			err = keepMembers(of.Variables[v.Variable], raw, func(name string) bool {
				f := v.Definition.Fields.ForName(name)
				return f != nil && f.Type.NamedType == jsonName
			})
		}
	}
	if err == nil {
		keepLiterals(of, written)
	}
	return err
}

func keepMembers(value any, raw json.RawMessage, isJSON func(name string) bool) error {
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	written, err := membersOf(raw)
	for name := range object {
		if isJSON(name) {
			object[name] = written[name]
		}
	}
	return err
}

func membersOf(raw json.RawMessage) (m map[string]json.RawMessage, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return m, json.Unmarshal(raw, &m)
}

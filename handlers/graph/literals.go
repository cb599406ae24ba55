package graph

import (
	"encoding/json"
	"strconv"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/millstream/millstream/pkg/job"
)

// literals puts variables in the place of literals that are JSON, so that these reach the
// service as they were written too: what the validator makes of one has lost the order of its
// members, digits of its numbers, and that a list is empty.
type literals struct{ variables map[string]any }

// keepLiterals does it wherever the operation may have one.
func keepLiterals(of *graphql.OperationContext, sent map[string]json.RawMessage) {
	if of.Variables == nil {
		of.Variables = map[string]any{}
	}
	l := literals{of.Variables}
	l.defaults(of.Operation.VariableDefinitions, sent)
	l.set(of.Operation.SelectionSet)
	for _, f := range of.Doc.Fragments {
		l.set(f.SelectionSet)
	}
}

// defaults keeps those of variables that were not sent.
func (l literals) defaults(variables ast.VariableDefinitionList, sent map[string]json.RawMessage) {
	for _, v := range variables {
		if _, is := sent[v.Variable]; !is && v.DefaultValue != nil && l.value(v.DefaultValue) {
			l.variables[v.Variable], _ = v.DefaultValue.Value(l.variables) // the validator had it
		}
	}
}

func (l literals) set(set ast.SelectionSet) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			for _, a := range s.Arguments {
				l.value(a.Value)
			}
			l.set(s.SelectionSet)
		case *ast.InlineFragment:
			l.set(s.SelectionSet)
		}
	}
}

// value keeps what is JSON in a value, and reports whether there is any.
func (l literals) value(v *ast.Value) (kept bool) {
	if v.Kind == ast.Variable {
		return false
	}
	if v.ExpectedType != nil && v.ExpectedType.NamedType == jsonName {
		name := "\x00" + strconv.Itoa(len(l.variables)) // no name that can be written
		l.variables[name] = json.RawMessage(l.appendJSON(nil, v))
		*v = ast.Value{Kind: ast.Variable, Raw: name, Position: v.Position, ExpectedType: v.ExpectedType, Definition: v.Definition}
		return true
	}
	for _, child := range v.Children {
		kept = l.value(child.Value) || kept
	}
	return kept
}

// appendJSON appends a value as it was written. Numbers of GraphQL are numbers of JSON.
func (l literals) appendJSON(b []byte, v *ast.Value) []byte {
	switch v.Kind {
	case ast.StringValue, ast.BlockValue, ast.EnumValue:
		return append(b, job.MustJSON(v.Raw)...)
	case ast.ListValue:
		return append(l.appendChildren(append(b, '['), v), ']')
	case ast.ObjectValue:
		return append(l.appendChildren(append(b, '{'), v), '}')
	case ast.Variable:
		value, _ := v.Value(l.variables)
		return append(b, job.MustJSON(value)...)
	}
	return append(b, v.Raw...)
}

func (l literals) appendChildren(b []byte, of *ast.Value) []byte {
	first := true
	for _, child := range of.Children {
		if of.Kind == ast.ObjectValue && l.unset(child.Value) {
			continue // a member of nothing is none
		}
		if !first {
			b = append(b, ',')
		}
		if first = false; of.Kind == ast.ObjectValue {
			b = append(append(b, job.MustJSON(child.Name)...), ':')
		}
		b = l.appendJSON(b, child.Value)
	}
	return b
}

// unset reports whether a value is a variable that has none.
func (l literals) unset(v *ast.Value) bool {
	if v.Kind != ast.Variable {
		return false
	}
	_, set := l.variables[v.Raw]
	return !set && (v.VariableDefinition == nil || v.VariableDefinition.DefaultValue == nil)
}

package graph

import (
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// What one request may ask for. The query that tools read the schema with is the largest
// that anybody needs (184 words, 15 deep, 230 fields), so there is room for that twice.
const (
	MaxTokens  = 500 // words of a query: what it costs to check grows with their square
	MaxDepth   = 16  // fields within fields; introspection has a rule of its own, three lists
	MaxAliases = 10  // fields under another name: a page that shows ten jobs
	MaxCost    = 500 // see cost
)

// cost is what a field counts; all others count 1.
var cost = map[string]int{
	"Query.job":           10, // a look-up
	"Mutation.submit":     50, // a write to disk
	"Mutation.cancel":     50,
	"Subscription.events": 50, // a stream
}

// limit fails on an operation that asks for too much.
func limit(of *ast.OperationDefinition) gqlerror.List {
	var m measure
	if err := m.set(of.SelectionSet, 1); err != nil {
		return gqlerror.List{err}
	}
	return nil
}

// measure adds up what an operation asks for, as often as it does: what a fragment has
// counts wherever it is spread. It ends as soon as it is too much.
type measure struct{ aliases, cost int }

func (m *measure) set(set ast.SelectionSet, depth int) *gqlerror.Error {
	for _, s := range set {
		var err *gqlerror.Error
		switch s := s.(type) {
		case *ast.Field:
			err = m.field(s, depth)
		case *ast.InlineFragment:
			err = m.set(s.SelectionSet, depth)
		case *ast.FragmentSpread:
			err = m.set(s.Definition.SelectionSet, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *measure) field(f *ast.Field, depth int) *gqlerror.Error {
	if f.Alias != f.Name {
		m.aliases++
	}
	m.cost += max(1, cost[f.ObjectDefinition.Name+"."+f.Name])
	switch {
	case depth > MaxDepth:
		return gqlerror.ErrorPosf(f.Position, "The query is nested deeper than %d.", MaxDepth)
	case m.aliases > MaxAliases:
		return gqlerror.ErrorPosf(f.Position, "The query has more than %d aliases.", MaxAliases)
	case m.cost > MaxCost:
		return gqlerror.ErrorPosf(f.Position, "The query asks for too much: a field counts 1, job 10, submit, cancel and events 50, and %d is the most.", MaxCost)
	}
	return m.set(f.SelectionSet, depth+1)
}

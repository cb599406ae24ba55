package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millstream/millstream/pkg/job"
)

// Request is what a client sends, whatever it sends it on.
type Request struct {
	Query     string
	Operation string          // name; "": the only one
	Variables json.RawMessage // an object that is known to be JSON; nil: none
}

// Response is a response of GraphQL (its specification, 7.1).
type Response struct {
	JSON    []byte
	Errors  []byte // of it, as an array; nil: there are none
	ID      string // of the event that it is of; "": of none
	Refused bool   // nothing was executed: there is no data, not even null
}

// Engine executes requests.
type Engine struct {
	exec    *executor.Executor
	problem func(error) *job.Problem
}

// schema is the schema without @defer: a response comes in one piece.
var schema = func() *ast.Schema {
	s := *parsedSchema
	s.Directives = maps.Clone(s.Directives)
	delete(s.Directives, "defer")
	return &s
}()

// New returns an engine. problem says what a client is told of an error of s, and of a
// panic.
func New(s Service, problem func(error) *job.Problem) *Engine {
	e := &Engine{exec: executor.New(NewExecutableSchema(Config{Schema: schema, Resolvers: root{s}})), problem: problem}
	e.exec.SetParserTokenLimit(MaxTokens)
	e.exec.SetErrorPresenter(e.present)
	e.exec.SetRecoverFunc(func(_ context.Context, v any) error { return failure{fmt.Errorf("panic: %v", v)} })
	e.exec.AroundResponses(withID)
	return e
}

// Operation is an operation that is executed.
type Operation struct {
	engine *Engine
	of     *graphql.OperationContext
	next   graphql.ResponseHandler
	ctx    context.Context
}

// Parse returns the operation of a request, which has yet to Start, or why it is refused.
func (e *Engine) Parse(ctx context.Context, r *Request) (*Operation, *Response) {
	ctx = graphql.StartOperationTrace(ctx)
	variables, err := r.variables()
	if err != nil {
		return nil, e.Refusal(err)
	}
	of, errs := e.exec.CreateOperationContext(ctx, &graphql.RawParams{Query: r.Query, OperationName: r.Operation, Variables: variables})
	switch {
	case len(errs) == 0:
		errs = limit(of.Operation)
	case of.Operation == nil && r.Operation == "" && of.Doc != nil && len(of.Doc.Operations) > 1:
		errs = gqlerror.List{gqlerror.Errorf("There are several operations: operationName has to say which one.")}
	}
	if len(errs) > 0 {
		return nil, e.refused(ctx, errs)
	}
	if err := r.keepJSON(of); err != nil {
		return nil, e.Refusal(err)
	}
	of.DisableIntrospection = false // the schema is no secret: it is in the documentation
	return &Operation{engine: e, of: of}, nil
}

// Streams reports whether there is a response for each event: it is a subscription.
func (o *Operation) Streams() bool { return o.of.Operation.Operation == ast.Subscription }

// Writes reports whether the operation changes anything: it is a mutation.
func (o *Operation) Writes() bool { return o.of.Operation.Operation == ast.Mutation }

// Start executes the operation until ctx ends.
func (o *Operation) Start(ctx context.Context) {
	o.next, o.ctx = o.engine.exec.DispatchOperation(ctx, o.of)
}

// Next returns the next response; nil: there is none. All but a subscription have one.
func (o *Operation) Next() *Response {
	r := o.next(o.ctx)
	if r == nil {
		return nil
	}
	return encode(r)
}

// Refusal returns the response to a request that is not executed.
func (e *Engine) Refusal(err error) *Response {
	return encode(&graphql.Response{Errors: gqlerror.List{e.problemError(err)}})
}

// What is said of a query that is wrong: it must not be a way to have a thousand bytes sent for
// each that comes.
const (
	maxErrors  = 10  // one is what most people mend at a time
	maxMessage = 256 // bytes; it may repeat what the query has
)

func (e *Engine) refused(ctx context.Context, errs gqlerror.List) *Response {
	return encode(e.exec.DispatchError(ctx, errs[:min(len(errs), maxErrors)]))
}

// present returns an error as the client sees it: with the problem that it is as its
// extensions.
func (e *Engine) present(ctx context.Context, err error) *gqlerror.Error {
	var ours failure
	if errors.As(err, &ours) {
		shown := e.problemError(ours.error)
		shown.Path = graphql.GetPath(ctx)
		return shown
	}
	shown := *graphql.DefaultErrorPresenter(ctx, err)
	shown.Message, shown.Path = clip(shown.Message), clipPath(shown.Path)
	shown.Extensions = e.problemError(job.Problemf("invalid-request", "%s", shown.Message)).Extensions
	return &shown
}

// clip cuts a text to about maxMessage bytes, between runes.
func clip(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	n := maxMessage
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// clipPath returns a path with its names cut.
func clipPath(path ast.Path) ast.Path {
	path = slices.Clone(path)
	for i, p := range path {
		if name, ok := p.(ast.PathName); ok {
			path[i] = ast.PathName(clip(string(name)))
		}
	}
	return path
}

// problemError returns the problem that err is as an error of GraphQL. Its code is what
// GraphQL clients look for.
func (e *Engine) problemError(err error) *gqlerror.Error {
	p := e.problem(err)
	extensions := map[string]any{}
	_ = json.Unmarshal(p.JSON(), &extensions) // it was JSON a moment ago
	extensions["code"] = p.Name()
	if p.RetryAfter > 0 {
		extensions["retry_after"] = int(p.RetryAfter.Seconds())
	}
	return &gqlerror.Error{Message: p.Error(), Extensions: extensions}
}

// withID names the event in the response that is made of it, for clients on transports that
// have no ids of their own.
func withID(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	r := next(ctx)
	if id, _ := ctx.Value(eventID{}).(*string); r != nil && id != nil {
		r.Extensions = map[string]any{"id": *id}
	}
	return r
}

// encode writes a response with its data as it is: what is JSON in it stays as it was
// written, which encoding/json would not do.
func encode(r *graphql.Response) *Response {
	out := &Response{Refused: r.Data == nil}
	b := []byte{'{'}
	if len(r.Errors) > 0 {
		out.Errors = job.MustJSON(r.Errors)
		b = appendMember(b, "errors", out.Errors)
	}
	if r.Data != nil {
		b = appendMember(b, "data", r.Data)
	}
	if id, ok := r.Extensions["id"].(string); ok {
		out.ID = id
		b = appendMember(b, "extensions", job.MustJSON(r.Extensions))
	}
	out.JSON = append(b, '}')
	return out
}

func appendMember(b []byte, name string, value []byte) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return append(b, value...)
}

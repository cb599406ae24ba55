package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/job"
)

// graphType is the media type of GraphQL's own answers, whose status says more than that
// there is one (GraphQL over HTTP).
const graphType = "application/graphql-response+json"

// graphql answers /graphql: an operation in the body of a POST or in the query of a GET,
// with its response or, over Server-Sent Events, with all of them (graphql_stream.go); or a
// WebSocket (graphql_socket.go). Errors are in the form of GraphQL, with the problem that
// the same thing is over REST as their extensions.
//
//	Server-Sent Events ┐
//	POST, GET          ├ graph.Engine → graphService (graphql_service.go) → feed (graphql_feed.go) → session (stream.go)
//	WebSocket          ┘
func (a *API) graphql(c *gin.Context) {
	if err := a.operate(c); err != nil {
		c.Abort()
		a.failOperation(c, err)
	}
}

func (a *API) operate(c *gin.Context) error {
	if err := wellFormed(c); err != nil {
		return err
	}
	if wantsSocket(c.Request) {
		return a.graphSocket(c)
	}
	who, err := a.operator(c)
	if err != nil {
		return err
	}
	request, err := a.graphRequest(c)
	if err != nil {
		return err
	}
	ctx := withCaller(c.Request.Context(), who)
	o, refused := a.graph.Parse(ctx, request)
	if refused != nil {
		return a.sendRefused(c, refused)
	}
	if err := mayRun(c, o, who); err != nil {
		return err
	}
	if err := holdable(o, request); err != nil {
		return err
	}
	if formatFor(c.Request.Header, o) == sseType {
		return a.streamResponses(ctx, c, o)
	}
	if o.Streams() {
		return job.Problemf("invalid-request", "A subscription needs Accept: %s, or a WebSocket.", sseType)
	}
	o.Start(ctx)
	return sendResponse(c, http.StatusOK, o.Next())
}

// operator returns who sent the request.
func (a *API) operator(c *gin.Context) (caller, error) {
	token, sent, err := tokenOf(c.Request)
	if err != nil {
		return caller{}, err
	}
	who, err := a.callerWith(token, sent, queryOf(c.Request).Has("access_token"))
	if err != nil {
		challengeFor(c, sent)
	}
	return who, err
}

// mayRun fails on an operation that its sender, or its method, must not do.
func mayRun(c *gin.Context, o *graph.Operation, who caller) error {
	switch {
	case !o.Writes():
		return nil
	case c.Request.Method == http.MethodGet:
		c.Header("Allow", http.MethodPost)
		return job.Problemf("method-not-allowed", "A mutation is sent with POST.")
	case who.limited:
		return errReadsOnly
	}
	return nil
}

// maxSubscription is how large a subscription may be: it is held for as long as it lives. Over
// REST it would be the head of a request.
const maxSubscription = maxHeaders

// holdable fails on a subscription that is too large to be held.
func holdable(o *graph.Operation, r *graph.Request) error {
	if !o.Streams() || len(r.Query)+len(r.Variables) <= maxSubscription {
		return nil
	}
	return job.Problemf("too-large", "The query and the variables of a subscription may have %d bytes.", maxSubscription)
}

// formatFor returns the media type of the answer. A subscription is streamed to whoever
// takes a stream, in whatever order it names what it takes.
func formatFor(h http.Header, o *graph.Operation) string {
	if !o.Streams() {
		return negotiate(h, jsonType, graphType, sseType)
	}
	if q, _ := quality(acceptable(h), sseType); q > 0 || h.Get("Accept") == "" {
		return sseType
	}
	return jsonType
}

// graphRequest reads what the request asks for.
func (a *API) graphRequest(c *gin.Context) (*graph.Request, error) {
	if c.GetHeader("Idempotency-Key") != "" {
		return nil, job.Problemf("invalid-request", "Idempotency-Key: on /graphql the key is idempotencyKey, a member of what is submitted")
	}
	if c.Request.Method == http.MethodGet {
		return requestInQuery(c.Request)
	}
	if err := needJSON(c); err != nil {
		return nil, err
	}
	doc, err := body(c, a.Body)
	if err != nil {
		return nil, err
	}
	if err := checkJSON(doc); err != nil {
		return nil, err
	}
	return requestIn(doc)
}

// requestIn reads a request from JSON that was checked. Of what it does not know nothing
// is said: clients have members of their own.
func requestIn(doc []byte) (*graph.Request, error) {
	if isArray(doc) {
		return nil, job.Problemf("invalid-request", "One request is taken at a time.")
	}
	if doc = bytes.TrimLeft(doc, space); doc[0] != '{' {
		return nil, invalid("", "must be an object")
	}
	r, query := &graph.Request{}, (*string)(nil)
	for name, raw := range members(doc) {
		var err error
		switch name {
		case "query":
			err = json.Unmarshal(raw, &query)
		case "operationName":
			err = json.Unmarshal(raw, &r.Operation)
		case "variables":
			r.Variables, err = objectOf(raw)
		case "extensions":
			_, err = objectOf(raw)
		}
		if err != nil {
			return nil, invalid("/"+name, "is not of the type that it must be")
		}
	}
	if query == nil {
		return nil, invalid("/query", "is required")
	}
	r.Query = *query
	return r, nil
}

// objectOf returns raw if it is an object; nil: it is null.
func objectOf(raw json.RawMessage) (json.RawMessage, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	var object map[string]json.RawMessage
	return raw, json.Unmarshal(raw, &object)
}

// requestInQuery reads a request from the address of a GET.
func requestInQuery(r *http.Request) (*graph.Request, error) {
	q := queryOf(r)
	doc := []byte{'{'}
	for _, name := range []string{"query", "operationName", "variables", "extensions"} {
		values := q[name]
		if len(values) > 1 {
			return nil, job.Problemf("invalid-request", "%s: is there twice", name)
		}
		if len(values) == 0 || values[0] == "" {
			continue
		}
		text := []byte(values[0])
		if name == "query" || name == "operationName" {
			text, _ = job.JSON(values[0]) // a string
		}
		if err := checkJSON(text); err != nil {
			return nil, job.Problemf("invalid-request", "%s: is not JSON", name)
		}
		doc = append(append(append(doc, `"`+name+`":`...), text...), ',')
	}
	doc = append(bytes.TrimSuffix(doc, []byte{','}), '}')
	return requestIn(doc)
}

// sendResponse answers with a response of GraphQL.
func sendResponse(c *gin.Context, status int, r *graph.Response) error {
	c.Header("Cache-Control", "no-store")
	c.Writer.Header().Add("Vary", "Accept, Authorization")
	return send(c, status, negotiate(c.Request.Header, jsonType, graphType), r.JSON)
}

// sendRefused answers a request that is none, by the rules of GraphQL. Only the newer media
// type has a status for that; with the older one all that could be read is 200.
func (a *API) sendRefused(c *gin.Context, r *graph.Response) error {
	switch negotiate(c.Request.Header, jsonType, graphType, sseType) {
	case graphType:
		return sendResponse(c, http.StatusBadRequest, r)
	case sseType:
		s := newResponseStream(a, c)
		if err := s.next(r); err != nil {
			return err
		}
		return s.complete()
	}
	return sendResponse(c, http.StatusOK, r)
}

// failOperation answers with an error that came before any operation.
func (a *API) failOperation(c *gin.Context, err error) {
	p := a.failure(c, err)
	if p == nil {
		return
	}
	problemHeader(c, p)
	_ = sendResponse(c, p.Status, a.graph.Refusal(p)) // a reader that is gone needs no second answer
}

// graphProblem returns what a client of GraphQL is told of an error. Why a store failed is
// logged and not told.
func (a *API) graphProblem(err error) *job.Problem {
	p, ours := problemOf(err)
	if !ours {
		a.logOperation(err)
	}
	if comesBack(p) {
		p.RetryAfter = time.Duration(retryAfter(p)) * time.Second
	}
	return p
}

// logOperation logs why an operation failed, unless it is only that nobody waits for it.
func (a *API) logOperation(err error) {
	if !errors.Is(err, context.Canceled) {
		a.Log.Error("operation failed", zap.Error(err))
	}
}

// callerKey is the key of the caller in the context of an operation.
type callerKey struct{}

func withCaller(ctx context.Context, who caller) context.Context {
	return context.WithValue(ctx, callerKey{}, who)
}

func callerIn(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

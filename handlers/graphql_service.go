package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/job"
)

// graphService does for GraphQL what the routes do for REST, by the same rules.
type graphService struct{ *API }

// Job is GET /v1/jobs/{id}.
func (g graphService) Job(ctx context.Context, id string) (*graph.Job, error) {
	j, err := g.findFor(ctx, callerIn(ctx), id)
	if err != nil {
		return nil, err
	}
	return g.show(&j)
}

// show returns the job with the values that REST has.
func (g graphService) show(j *job.Job) (*graph.Job, error) {
	b, err := job.JSON(g.represent(j))
	if err != nil {
		return nil, err
	}
	shown := new(graph.Job)
	return shown, json.Unmarshal(b, shown)
}

// Submit is POST /v1/jobs.
func (g graphService) Submit(ctx context.Context, in *graph.JobInput) (*graph.Submitted, error) {
	j, replayed, err := g.stored(ctx, in)
	if err != nil {
		return nil, inCamelCase(err)
	}
	shown, err := g.show(&j)
	return &graph.Submitted{Job: shown, Token: g.Tokens.Mint(j.ID, j.Owner, j.ExpiresAt), Replayed: replayed}, err
}

// stored stores the job that is asked for.
func (g graphService) stored(ctx context.Context, in *graph.JobInput) (j job.Job, replayed bool, err error) {
	key := ""
	if in.IdempotencyKey != nil {
		if key = *in.IdempotencyKey; !validKey(key) {
			return j, false, invalid("/idempotencyKey", "must be 1 to %d visible characters of ASCII", maxKey)
		}
	}
	s, err := submissionOf(in)
	if err != nil {
		return j, false, err
	}
	k, r, err := g.requested(s)
	if err != nil {
		return j, false, err
	}
	if err := g.takes(ctx, k, r.Input, "/input"); err != nil {
		return j, false, err
	}
	return g.storeOnce(ctx, key, &s.options, r)
}

// submissionOf returns what the body of the same submit over REST says.
func submissionOf(in *graph.JobInput) (*submission, error) {
	body := struct {
		*graph.JobInput
		Input json.RawMessage `json:"input,omitempty"`
	}{JobInput: in}
	if input, sent := in.Input.ValueOK(); sent {
		body.Input = json.RawMessage(input)
		if input == nil {
			body.Input = json.RawMessage("null")
		}
	}
	doc, err := job.JSON(body)
	if err != nil {
		return nil, err
	}
	return parseSubmission(doc)
}

// inCamelCase returns a problem with the names of its members as the schema has them.
func inCamelCase(err error) error {
	var p *job.Problem
	if !errors.As(err, &p) || len(p.Errors) != 1 {
		return err
	}
	member, below, nested := strings.Cut(strings.TrimPrefix(p.Errors[0].Pointer, "/"), "/")
	if !strings.Contains(member, "_") {
		return err
	}
	named := *p
	pointer := "/" + camelCase(member)
	if nested {
		pointer += "/" + below
	}
	named.Errors = []job.FieldError{{Pointer: pointer, Detail: p.Errors[0].Detail}}
	named.Detail = strings.Replace(p.Detail, member, camelCase(member), 1)
	return &named
}

// camelCase returns the name that a member of REST has in the schema.
func camelCase(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:min(1, len(w))]) + w[min(1, len(w)):]
	}
	return strings.Join(words, "")
}

// Cancel is POST /v1/jobs/{id}/cancel.
func (g graphService) Cancel(ctx context.Context, id, reason string) (*graph.Job, error) {
	if len(reason) > maxReason {
		return nil, invalid("/reason", "must be a string of at most %d bytes", maxReason)
	}
	j, err := g.findFor(ctx, callerIn(ctx), id)
	if err == nil {
		j, err = g.stop(ctx, j, reason)
	}
	if err != nil {
		return nil, err
	}
	return g.show(&j)
}

// Events is GET /v1/jobs/{id}/events. What will pass is told in band, as it is to an
// EventSource.
func (g graphService) Events(ctx context.Context, of graph.Selection) (<-chan *graph.Event, error) {
	to := watcherIn(ctx)
	r := reading{format: ndjsonType, place: to.place(of.After), types: typesIn(of.Types)}
	j, err := g.findFor(ctx, callerIn(ctx), of.Job)
	switch {
	case err != nil && !passes(err):
		return nil, err
	case err != nil:
		return g.turnedAway(ctx, &job.Job{ID: job.ID(of.Job)}, r, err), nil
	case j.Status.Over() && r.place.cursor == j.Cursor:
		to.nothing()
		return closedFeed, nil
	}
	leave, ok := to.enter()
	if !ok {
		return g.turnedAway(ctx, &j, r, g.busy()), nil
	}
	from, err := g.openAt(ctx, &j, r.place)
	if err == nil {
		return g.feed(ctx, &j, r, func(ctx context.Context, s *session) error {
			defer leave()
			defer from.Close()
			return s.run(ctx, from)
		}), nil
	}
	leave()
	if err = g.unlessLost(ctx, j.ID, err); !passes(err) {
		return nil, err
	}
	return g.turnedAway(ctx, &j, r, err), nil
}

// turnedAway returns the events of a reader that cannot be served now.
func (g graphService) turnedAway(ctx context.Context, j *job.Job, r reading, err error) <-chan *graph.Event {
	return g.feed(ctx, j, r, func(_ context.Context, s *session) error { return s.turnAway(r.place, err) })
}

var closedFeed = func() <-chan *graph.Event {
	c := make(chan *graph.Event)
	close(c)
	return c
}()

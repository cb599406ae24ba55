package graph

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
)

// root answers the fields of the schema's roots.
type root struct{ Service }

func (r root) Query() QueryResolver               { return query{r} }
func (r root) Mutation() MutationResolver         { return mutation{r} }
func (r root) Subscription() SubscriptionResolver { return subscription{r} }

type (
	query        struct{ root }
	mutation     struct{ root }
	subscription struct{ root }
)

func (q query) Job(ctx context.Context, id string) (*Job, error) {
	j, err := q.Service.Job(ctx, id)
	return j, failed(err)
}

func (m mutation) Submit(ctx context.Context, in JobInput) (*Submitted, error) {
	s, err := m.Service.Submit(ctx, &in)
	return s, failed(err)
}

func (m mutation) Cancel(ctx context.Context, id string, reason *string) (*Job, error) {
	j, err := m.Service.Cancel(ctx, id, textOf(reason))
	return j, failed(err)
}

func (s subscription) Events(ctx context.Context, id string, after *string, types []string) (<-chan graphql.Event[*Event], error) {
	from, err := s.Service.Events(ctx, Selection{Job: id, After: textOf(after), Types: types})
	if err != nil {
		return nil, failed(err)
	}
	to := make(chan graphql.Event[*Event])
	go relay(ctx, from, to)
	return to, nil
}

// relay hands on each event with a context that knows its id, for the response that is made
// of it.
func relay(ctx context.Context, from <-chan *Event, to chan<- graphql.Event[*Event]) {
	defer close(to)
	for e := range from {
		select {
		case to <- graphql.Event[*Event]{Context: context.WithValue(ctx, eventID{}, e.ID), Value: e}:
		case <-ctx.Done():
		}
	}
}

// eventID is the key of the event's id in the context of its response.
type eventID struct{}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// failure is an error of the Service: any other one comes from the request.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func failed(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

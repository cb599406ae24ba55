package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/job"
)

// socketOperation is an operation on a socket, and the watcher of its subscription.
type socketOperation struct {
	*graphSocket
	id     string
	stop   context.CancelFunc
	writes sync.WaitGroup
}

// Why an operation does not begin.
var (
	errSameID = errors.New("there is a subscriber with this id")
	errFull   = job.Problemf("rate-limited", "A socket has at most %d operations at once.", maxOperations)
)

// subscribe begins an operation.
func (s *graphSocket) subscribe(m message) error {
	select {
	case <-s.let:
	default:
		return s.close(closeNotLetIn, "there was no connection_ack")
	}
	switch err := s.begin(m); err {
	case nil:
		return nil
	case errSameID:
		return s.close(closeSameID, err.Error())
	default:
		return s.send(messageOf(m.id, "error", s.api.graph.Refusal(err).Errors))
	}
}

// begin begins an operation; on a socket that closes it does nothing, as the client asks
// again on its next one.
func (s *graphSocket) begin(m message) error {
	s.turn.take()
	defer s.turn.give()
	switch {
	case s.active[m.id] != nil:
		return errSameID
	case len(s.active) >= maxOperations:
		return errFull
	case s.closing:
		return nil
	}
	ctx, stop := context.WithCancel(s.ctx)
	o := &socketOperation{graphSocket: s, id: m.id, stop: stop}
	s.active[m.id] = o
	s.running.Go(func() { o.run(ctx, m.payload) })
	return nil
}

// run executes the operation until its end, or its client's. Before it does one that was
// given up may have to end, which takes a moment that its client knows nothing of.
func (o *socketOperation) run(ctx context.Context, payload json.RawMessage) {
	select {
	case o.room <- struct{}{}:
		defer func() { <-o.room }()
	case <-ctx.Done():
		return
	}
	defer o.recovered()
	defer o.writes.Wait()
	defer o.stop()
	if refused := o.respond(withWatcher(withCaller(ctx, o.who), o), payload); refused != nil {
		o.finish("error", refused.Errors)
		return
	}
	o.finish("complete", nil)
}

// recovered survives a panic: nobody else would.
func (o *socketOperation) recovered() {
	if v := recover(); v != nil {
		o.api.Log.Error("panic", zap.String("route", "/graphql"), zap.Any("panic", v), zap.Stack("stack"))
		o.finish("error", o.api.graph.Refusal(job.Problemf("internal", "")).Errors)
	}
}

// respond sends the responses of an operation; refused says why there are none.
func (o *socketOperation) respond(ctx context.Context, payload json.RawMessage) (refused *graph.Response) {
	request, err := requestIn(payload)
	if err != nil {
		return o.api.graph.Refusal(err)
	}
	of, refused := o.api.graph.Parse(ctx, request)
	switch {
	case refused != nil:
		return refused
	case of.Writes() && o.who.limited:
		return o.api.graph.Refusal(errReadsOnly)
	}
	if err := holdable(of, request); err != nil {
		return o.api.graph.Refusal(err)
	}
	of.Start(ctx)
	for r := of.Next(); r != nil; r = of.Next() {
		if r.Refused {
			return r
		}
		if !o.tell("next", r.JSON) {
			return nil
		}
	}
	return nil
}

// tell sends a message of the operation; false: its client does not want it any more, or is
// gone. Another operation with the same id may have begun since.
func (o *socketOperation) tell(kind string, payload []byte) bool {
	o.turn.take()
	defer o.turn.give()
	return o.active[o.id] == o && o.send(messageOf(o.id, kind, payload)) == nil
}

// finish tells the client that the operation is over, from when on its id is free.
func (o *socketOperation) finish(kind string, payload []byte) {
	o.turn.take()
	defer o.turn.give()
	if o.active[o.id] == o {
		delete(o.active, o.id)
		_ = o.send(messageOf(o.id, kind, payload)) // who is gone needs no end
	}
}

// forget ends an operation that its client has enough of.
func (s *graphSocket) forget(id string) {
	s.turn.take()
	defer s.turn.give()
	if o := s.active[id]; o != nil {
		delete(s.active, id)
		o.stop()
	}
}

// messageOf returns a message of an operation.
func messageOf(id, kind string, payload []byte) []byte {
	name, _ := job.JSON(id) // a string
	b := append([]byte(`{"id":`), name...)
	b = append(append(append(b, `,"type":"`...), kind...), '"')
	if payload != nil {
		b = append(append(b, `,"payload":`...), payload...)
	}
	return append(b, '}')
}

func (o *socketOperation) place(after string) place { return afterPlace(after) }

func (o *socketOperation) enter() (leave func(), ok bool) { return o.streams.enter() }

// The socket as a whole stands, beats and is told when to come back.

func (o *socketOperation) nothing()                  {}
func (o *socketOperation) open() error               { return nil }
func (o *socketOperation) beat(string) error         { return nil }
func (o *socketOperation) comeBack(time.Duration)    {}
func (o *socketOperation) idleSince() time.Time      { return time.Now() }
func (o *socketOperation) sessions() *sync.WaitGroup { return &o.writes }

// places are those of a socket among the streams: it has one of its own, which its first
// subscription uses.
type places struct {
	api *API
	mu  sync.Mutex
	n   int
}

func (p *places) enter() (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n > 0 {
		if _, ok := p.api.enter(); !ok {
			return nil, false
		}
	}
	p.n++
	return p.leave, true
}

func (p *places) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n--; p.n > 0 {
		p.api.open.Add(-1)
	}
}

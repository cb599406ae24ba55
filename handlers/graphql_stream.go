package handlers

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/sse"
)

// responseStream is an answer with the responses of an operation as Server-Sent Events
// (GraphQL over SSE, distinct connections mode). The id of each is that of the event in it.
type responseStream struct {
	api    *API
	c      *gin.Context
	writes sync.WaitGroup

	turn  turn // to use the fields below
	out   *writer
	begun bool
	empty bool // there is nothing to read, nor will there be
}

func newResponseStream(a *API, c *gin.Context) *responseStream {
	return &responseStream{api: a, c: c, turn: make(turn, 1), out: newWriter(c)}
}

// streamResponses answers with the responses of an operation until the last one.
func (a *API) streamResponses(ctx context.Context, c *gin.Context, o *graph.Operation) error {
	s := newResponseStream(a, c)
	ctx, cancel := context.WithCancel(withWatcher(ctx, s))
	defer s.writes.Wait()
	defer cancel()
	o.Start(ctx)
	for r := o.Next(); r != nil; r = o.Next() {
		if err := s.next(r); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return errReaderGone
	}
	return s.complete()
}

// next writes a response.
func (s *responseStream) next(r *graph.Response) error {
	return s.write(sse.AppendEvent(nil, r.ID, "next", r.JSON))
}

// complete writes the end. An EventSource that comes back for more, as it does by itself,
// hears instead that there is no more.
func (s *responseStream) complete() error {
	if s.empty && !s.begun && s.c.GetHeader("Last-Event-ID") != "" {
		s.c.Header("Cache-Control", "no-store")
		return sendNothing(s.c, http.StatusNoContent)
	}
	return s.write(sse.AppendEvent(nil, "", "complete", nil))
}

// write sends b at once, behind the headers.
func (s *responseStream) write(b []byte) error {
	s.turn.take()
	defer s.turn.give()
	if !s.begun {
		s.begun = true
		streamHeader(s.c.Writer.Header(), reading{format: sseType})
		b = append(sse.AppendRetry(nil, between(minRetry, firstRetry)), b...)
	}
	if len(b) > 0 {
		if _, err := s.out.Write(b); err != nil {
			return err
		}
	}
	return s.out.Flush()
}

// place is the one of the Last-Event-ID header, as an EventSource repeats its URL; then that
// of the argument, then that of the query, which polyfills send.
func (s *responseStream) place(after string) place {
	if after == "" || s.c.GetHeader("Last-Event-ID") != "" {
		return placeOf(s.c.Request.Header, queryOf(s.c.Request))
	}
	return afterPlace(after)
}

func (s *responseStream) enter() (leave func(), ok bool) { return s.api.enter() }

func (s *responseStream) nothing() { s.empty = true }

func (s *responseStream) open() error {
	if s.stands() {
		return nil
	}
	return s.write(nil)
}

func (s *responseStream) stands() bool {
	s.turn.take()
	defer s.turn.give()
	return s.begun
}

func (s *responseStream) beat(at string) error {
	if at != "" {
		return s.write([]byte("id: " + at + "\n\n"))
	}
	return s.write([]byte(sse.Heartbeat))
}

func (s *responseStream) comeBack(after time.Duration) { _ = s.write(sse.AppendRetry(nil, after)) }

func (s *responseStream) idleSince() time.Time {
	s.turn.take()
	defer s.turn.give()
	return s.out.idleSince()
}

func (s *responseStream) sessions() *sync.WaitGroup { return &s.writes }

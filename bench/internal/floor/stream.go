package floor

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/pkg/job"
)

const streams = "/streams/"

// Path returns the address of the n-th topic's events.
func Path(n int) string { return streams + strconv.Itoa(n) }

// topic is what the readers of one path get.
type topic struct {
	job     job.ID
	seq     uint64
	readers []chan message
}

// message is an event, encoded once for all its readers.
type message struct {
	id, typ string
	data    []byte
}

// backlog is what a reader may lag behind.
const backlog = 64

// stream is the handler that everyone writes first.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	events := s.join(r.PathValue("topic"))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, "retry: 3000\n\n")
	w.(http.Flusher).Flush()
	for {
		select {
		case e := <-events:
			fmt.Fprintf(w, "event: %s\ndata: %s\nid: %s\n\n", e.typ, e.data, e.id)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// join adds a reader to a topic.
func (s *Server) join(name string) <-chan message {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.byName[name]
	if t == nil {
		t = &topic{job: job.NewID()}
		s.byName[name] = t
		s.topics = append(s.topics, t)
	}
	events := make(chan message, backlog)
	t.readers = append(t.readers, events)
	return events
}

// Publish says n events on each topic, one behind the other.
func (s *Server) Publish(n int, _ *struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.topics {
		for range n {
			t.publish(t.next())
		}
	}
	return nil
}

// Pace says events on the topics in turn, and answers with their number.
func (s *Server) Pace(p payload.Pacing, said *int) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*said, err = p.Each(func(n int) error {
		t := s.topics[n%len(s.topics)]
		t.publish(t.next())
		return nil
	})
	return err
}

func (t *topic) publish(m message) {
	for _, events := range t.readers {
		events <- m
	}
}

// next makes an event of the same form and size as Millstream's.
func (t *topic) next() message {
	t.seq++
	e := job.Event{Job: t.job, Place: job.Place{Position: t.seq, Epoch: 1}, Record: job.Record{
		Seq: t.seq, Type: payload.Type, Attempt: 1, Time: time.Now(), Data: job.MustData(payload.Now()),
	}}
	return message{e.Cursor().String(), string(e.Type), e.AppendJSON(nil)}
}

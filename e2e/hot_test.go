package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ten thousand readers come at random moments to a job that never falls silent, on any transport,
// behind any of its events or before the first, read some and leave: none of them sees a
// hole, an event twice, or another than everybody else.
func TestSubscribersOfAHotJob(t *testing.T) {
	t.Parallel()
	const subscribers, atOnce = 10_000, 48
	u := newUpstream(t)
	s := start(t, object{
		"limits": object{"streams": subscribers, "events_per_job": 1_000_000}, // the server may be slow to see who has left
		"kinds":  object{"hot": object{"http": object{"url": u.URL}}},
	})
	j := s.submit("hot", nil)
	work := u.next()
	work.answer(200, "text/event-stream")
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	enough := make(chan struct{})
	var hot, readers sync.WaitGroup
	hot.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-enough:
				work.end()
				return
			case <-time.After(time.Millisecond):
				work.say("event: step\ndata: %d\n\n", n)
			}
		}
	})
	whole := &shared{reader: reader{record: record{job: j.ID}, base: s.base, way: transports["sse"], seen: new(atomic.Int64)}}
	whole.hang = whole.publish
	readers.Go(func() { whole.follow(ctx) })
	eventually(t, "it runs", func() bool { return whole.seen.Load() > 10 })

	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2))
	ways := slices.Sorted(maps.Keys(transports))
	slots, faults := make(chan struct{}, atOnce), make(chan string, subscribers)
	var all sync.WaitGroup
	for range subscribers {
		left := random.IntN(20) + 1
		r := &reader{record: record{job: j.ID}, base: s.base, seen: new(atomic.Int64)}
		r.hang = func() bool { left--; return left <= 0 }
		r.way = transports[ways[random.IntN(len(ways))]]
		if random.IntN(4) > 0 {
			r.from = whole.recent(random)
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			for len(r.events) == 0 && len(r.surprises) == 0 && ctx.Err() == nil { // a page that waits may be over before the next event is there
				var odd surprise
				if err := r.way(r, ctx); errors.As(err, &odd) && len(r.events) == 0 {
					r.surprises = append(r.surprises, odd.Error())
				}
			}
			if fault := whole.check(r); fault != "" {
				faults <- fault
			}
		})
	}
	all.Wait()
	close(enough)
	hot.Wait()
	readers.Wait()
	close(faults)
	for fault := range faults {
		t.Error(fault)
	}
	require.Empty(t, whole.faults())
	require.Empty(t, whole.surprises)
	t.Logf("%d subscribers of a job of %d events: 0 holes", subscribers, len(whole.events))
}

// shared is a reader of a whole job whose events others look at meanwhile.
type shared struct {
	reader
	mu   sync.Mutex
	list []event
}

// publish shows the last event that was read; it never hangs up.
func (s *shared) publish() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, s.events[len(s.events)-1])
	return false
}

// recent returns one of the events there are, most often a late one.
func (s *shared) recent(random *rand.Rand) *event {
	s.mu.Lock()
	defer s.mu.Unlock()
	back := random.IntN(len(s.list))
	if random.IntN(2) > 0 {
		back = random.IntN(min(len(s.list), 100))
	}
	return &s.list[len(s.list)-1-back]
}

// check says what is wrong with what a reader saw.
func (s *shared) check(r *reader) string {
	if len(r.surprises) > 0 {
		return fmt.Sprint(r.surprises)
	}
	if len(r.events) == 0 {
		return "it saw nothing behind " + r.last()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	first := uint64(1)
	if r.from != nil {
		first = r.from.Seq + 1
	}
	for i, e := range r.events {
		switch n := first + uint64(i); {
		case e.Seq != n:
			return fmt.Sprintf("seq %d where %d belongs", e.Seq, n)
		case n <= uint64(len(s.list)) && s.list[n-1].raw != e.raw:
			return fmt.Sprintf("%s is %s to others", e.raw, s.list[n-1].raw)
		}
	}
	return ""
}

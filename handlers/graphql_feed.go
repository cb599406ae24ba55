package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/handlers/graph"
	"github.com/millstream/millstream/pkg/job"
)

// watcher is the client of a subscription, on whatever transport.
type watcher interface {
	place(after string) place       // where it wants to read on
	enter() (leave func(), ok bool) // takes a place among the streams
	nothing()                       // there is nothing for it, nor will there be
	open() error                    // its stream stands
	beat(at string) error           // it lives; at: the cursor behind what it was spared, or ""
	comeBack(after time.Duration)   // the next event sends it away
	idleSince() time.Time           // when something was sent to it
	sessions() *sync.WaitGroup      // that write to it
}

// turn is a mutex for who writes to the network with it: a test's clock (testing/synctest) does
// not pass while somebody waits for a sync.Mutex.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }

func (t turn) give() { <-t }

// watcherKey is the key of the watcher in the context of a subscription.
type watcherKey struct{}

func withWatcher(ctx context.Context, w watcher) context.Context {
	return context.WithValue(ctx, watcherKey{}, w)
}

func watcherIn(ctx context.Context) watcher { return ctx.Value(watcherKey{}).(watcher) }

// afterPlace returns the place that a subscription's argument names.
func afterPlace(after string) place {
	switch after {
	case "":
		return place{}
	case latest:
		return place{latest: true}
	}
	return placeAt(after)
}

// typesIn returns the filter for a list of types.
func typesIn(types []string) filter {
	return typesOf(map[string][]string{"types": types})
}

// feed is the outlet of a session whose events become responses of GraphQL. As it waits
// for each to be taken, nothing is read for a client that is slow.
type feed struct {
	watcher
	ctx     context.Context // ends when the client is gone
	session *session
	to      chan *graph.Event
}

// feed returns a channel with the events that run writes to a session.
func (a *API) feed(ctx context.Context, j *job.Job, r reading, run func(ctx context.Context, s *session) error) <-chan *graph.Event {
	f := &feed{watcher: watcherIn(ctx), ctx: ctx, to: make(chan *graph.Event)}
	f.session = a.newSession(f, j, r)
	f.sessions().Go(func() {
		defer close(f.to)
		ctx, cancel := callerIn(ctx).whileValid(ctx)
		defer cancel()
		f.run(ctx, run)
	})
	return f.to
}

// run runs a session and survives it: nobody else would.
func (f *feed) run(ctx context.Context, run func(ctx context.Context, s *session) error) {
	defer func() {
		if v := recover(); v != nil {
			f.session.api.Log.Error("panic", zap.String("route", "/graphql"), zap.String("job", string(f.session.job.ID)), zap.Any("panic", v), zap.Stack("stack"))
			_ = f.session.end(job.Problemf("internal", ""))
		}
	}()
	_ = run(ctx, f.session) // who is to know it has been told
}

// Write sends each line of b, all of which end, as an event; an empty one is a heartbeat.
// Before the first one the stream stands.
func (f *feed) Write(b []byte) (int, error) {
	if err := f.open(); err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimSuffix(line, []byte{'\n'})
		if err := f.line(line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (f *feed) line(line []byte) error {
	s := f.session
	if len(line) == 0 {
		at := ""
		if s.spared {
			s.spared, at = false, s.at.String()
		}
		return f.beat(at)
	}
	e := &graph.Event{Object: line}
	if err := json.Unmarshal(line, e); err != nil {
		return err
	}
	if s.ended != "" {
		f.comeBack(s.api.retry())
	}
	if s.placeless {
		e.ID = nil
	}
	select {
	case f.to <- e:
		return nil
	case <-f.ctx.Done():
		return fmt.Errorf("%w: %w", errReaderGone, f.ctx.Err())
	}
}

// Flush tells the client that its stream stands: a line has been sent.
func (f *feed) Flush() error { return f.open() }

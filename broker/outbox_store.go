package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What stores keep of deliveries, by name; see store.

// seen is what was seen of deliveries, which a write counts on: that the last one of a name
// is at a place, or that there is none, at 0. A name may begin with anyPrefix.
type seen struct {
	name  string
	place uint64
}

func (s *jetStream) setDelivery(ctx context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error) {
	var opts []jetstream.PublishOpt
	if was != nil {
		opts = append(opts, jetstream.WithExpectLastSequenceForSubject(was.place, hooksPrefix+was.name))
	}
	return s.store(ctx, hooksPrefix+name, data, ttl, opts...)
}

func (s *jetStream) delivery(ctx context.Context, name string) (stored, error) {
	return s.last(ctx, s.hooks, hooksPrefix+name)
}

func (s *jetStream) deliveries(ctx context.Context, pattern string, each func(stored)) (last uint64, err error) {
	info, err := s.hooks.Info(ctx)
	if err != nil {
		return 0, unavailable(err)
	}
	if last = info.State.LastSeq; info.State.Msgs == 0 {
		return last, nil // a consumer costs a start more than all else
	}
	return last, s.consume(ctx, s.hooks, hooksPrefix+pattern, 0, last, func(m stored) {
		m.subject = m.subject[len(hooksPrefix):]
		each(m)
	})
}

func (s *jetStream) dropDeliveries(ctx context.Context, pattern string) error {
	return unavailable(s.hooks.Purge(ctx, jetstream.WithPurgeSubject(hooksPrefix+pattern)))
}

func (m *memory) setDelivery(_ context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	forget(m.hooks)
	if was != nil && m.lastHook(was.name) != was.place {
		return 0, errRefused
	}
	m.hooked++
	e := entryTTL{data: data, place: m.hooked}
	if ttl > 0 {
		e.end = time.Now().Add(ttl)
	}
	m.hooks[name] = e
	return 0, nil
}

// lastHook returns the place of the last entry of a name, see seen. m.mu is held.
func (m *memory) lastHook(name string) (place uint64) {
	names := []string{name}
	if rest, any := strings.CutPrefix(name, anyPrefix); any {
		names = []string{duePrefix + rest, overPrefix + rest}
	}
	for _, name := range names {
		if e := m.hooks[name]; !e.over() {
			place = max(place, e.place)
		}
	}
	return place
}

func (m *memory) delivery(_ context.Context, name string) (stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.hooks[name]
	if !ok || e.over() {
		return stored{}, errNone
	}
	return stored{name, e.place, e.data}, nil
}

func (m *memory) deliveries(_ context.Context, pattern string, each func(stored)) (uint64, error) {
	m.mu.Lock()
	var all []stored
	for _, name := range slices.Sorted(maps.Keys(m.hooks)) {
		if e := m.hooks[name]; matches(pattern, name) && !e.over() {
			all = append(all, stored{subject: name, data: e.data})
		}
	}
	m.mu.Unlock()
	for _, s := range all {
		each(s)
	}
	return 0, nil
}

func (m *memory) dropDeliveries(_ context.Context, pattern string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.hooks, func(name string, _ entryTTL) bool { return matches(pattern, name) })
	return nil
}

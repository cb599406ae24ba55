package broker

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// memory is a store that lives and dies with the process: for tests, and for
// those who want nothing kept.
type memory struct {
	mu       sync.Mutex // protects the fields below
	last     uint64
	log      []stored          // in order of position, purged at the front
	tails    map[string]uint64 // last position of each subject
	archive  map[string]entryTTL
	keyed    map[string]entryTTL
	hooks    map[string]entryTTL
	hooked   uint64 // place of the last one ever kept
	settings map[string][]byte
	verdicts []func() // to be told, in order
	closed   bool

	told  *sync.Cond // of mu: verdicts or closed changed
	ended chan struct{}
}

type entryTTL struct {
	data  []byte
	end   time.Time // zero: never
	place uint64    // of a delivery
}

func newMemory() *memory {
	m := &memory{
		tails: map[string]uint64{}, archive: map[string]entryTTL{}, keyed: map[string]entryTTL{}, hooks: map[string]entryTTL{}, settings: map[string][]byte{},
		ended: make(chan struct{}),
	}
	m.told = sync.NewCond(&m.mu)
	go m.tell()
	return m
}

// tell tells the verdicts, without the lock: who hears one may publish the next.
func (m *memory) tell() {
	defer close(m.ended)
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		for len(m.verdicts) == 0 && !m.closed {
			m.told.Wait()
		}
		if len(m.verdicts) == 0 {
			return
		}
		all := m.verdicts
		m.verdicts = nil
		m.mu.Unlock()
		for _, verdict := range all {
			verdict()
		}
		m.mu.Lock()
	}
}

func (m *memory) say(done func(uint64, error), position uint64, err error) {
	m.verdicts = append(m.verdicts, func() { done(position, err) })
	m.told.Signal()
}

func (m *memory) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		go done(0, errClosed)
	case m.tails[subject] != fence:
		m.say(done, 0, errRefused)
	default:
		m.last++
		m.tails[subject] = m.last
		m.log = append(m.log, stored{subject, m.last, data})
		m.say(done, m.last, nil)
	}
}

func (m *memory) at(position uint64) (int, bool) {
	return slices.BinarySearchFunc(m.log, position, func(s stored, p uint64) int {
		switch {
		case s.position < p:
			return -1
		case s.position > p:
			return 1
		}
		return 0
	})
}

func (m *memory) get(_ context.Context, position uint64) (stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, ok := m.at(position)
	if !ok {
		return stored{}, errNone
	}
	return m.log[i], nil
}

func (m *memory) several(ctx context.Context, positions []uint64) []stored {
	found := make([]stored, len(positions))
	for i, p := range positions {
		found[i], _ = m.get(ctx, p)
	}
	return found
}

func (m *memory) next(_ context.Context, subject string, position uint64) (stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, _ := m.at(position); i < len(m.log); i++ {
		if m.log[i].subject == subject {
			return m.log[i], nil
		}
	}
	return stored{}, errNone
}

func (m *memory) has(_ context.Context, subject string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.tails[subject]
	return ok, nil
}

func (m *memory) scan(_ context.Context, each func(stored)) (first, last uint64, err error) {
	m.mu.Lock()
	all := slices.Clone(m.log)
	first, last = m.last+1, m.last
	m.mu.Unlock()
	for _, s := range all {
		first = min(first, s.position)
		each(s)
	}
	return first, last, nil
}

func (m *memory) purge(_ context.Context, below uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := m.at(below)
	for _, s := range m.log[:i] {
		if m.tails[s.subject] == s.position { // as in JetStream, a subject without messages has no last one
			delete(m.tails, s.subject)
		}
	}
	m.log = slices.Clone(m.log[i:])
	return nil
}

func (m *memory) put(_ context.Context, name string, data []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	forget(m.archive)
	e := entryTTL{data: data}
	if ttl > 0 {
		e.end = time.Now().Add(ttl)
	}
	m.archive[name] = e
	return nil
}

func (e entryTTL) over() bool { return !e.end.IsZero() && time.Now().After(e.end) }

func (m *memory) place(ctx context.Context, name string, data []byte, ttl time.Duration) (uint64, error) {
	return 0, m.put(ctx, name, data, ttl)
}

func (m *memory) placed(context.Context, string, uint64) ([]byte, error) { return nil, errNone }

// forget drops a few entries whose time is over, so that they do not pile up.
func forget(entries map[string]entryTTL) {
	tried := 0
	for name, e := range entries {
		if tried++; tried > 4 {
			return
		}
		if e.over() {
			delete(entries, name)
		}
	}
}

func (m *memory) archived(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.archive[name]
	if !ok || e.over() {
		return nil, errNone
	}
	return e.data, nil
}

func (m *memory) scanArchive(_ context.Context, each func(stored)) (uint64, error) {
	m.mu.Lock()
	var heads []stored
	for name, e := range m.archive {
		if !strings.Contains(name, ".") && !e.over() {
			heads = append(heads, stored{subject: name, data: e.data})
		}
	}
	m.mu.Unlock()
	for _, h := range heads {
		each(h)
	}
	return 0, nil
}

func (m *memory) remove(_ context.Context, prefix string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.archive, func(name string, _ entryTTL) bool {
		return strings.HasPrefix(name, prefix+".")
	})
	return nil
}

func (m *memory) names(_ context.Context, pattern string) (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, e := range m.archive {
		if matches(pattern, name) && !e.over() {
			names = append(names, name)
		}
	}
	return names, nil
}

// matches reports whether the tokens of name are those of the pattern, where * is any.
func matches(pattern, name string) bool {
	want, have := strings.Split(pattern, "."), strings.Split(name, ".")
	return slices.EqualFunc(want, have, func(w, h string) bool { return w == "*" || w == h })
}

func (m *memory) key(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.keyed[name]
	if !ok || e.over() {
		return nil, errNone
	}
	return e.data, nil
}

func (m *memory) setKey(_ context.Context, name string, data []byte, ttl time.Duration, fresh bool) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.keyed[name]; ok && fresh && !e.over() {
		return 0, errRefused
	}
	forget(m.keyed)
	m.keyed[name] = entryTTL{data: data, end: time.Now().Add(ttl)}
	return 0, nil
}

func (m *memory) keys(context.Context) (last uint64, count int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 0, len(m.keyed), nil
}

func (m *memory) dropKey(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keyed, name)
	return nil
}

func (m *memory) setting(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.settings[key]
	if !ok {
		return nil, errNone
	}
	return v, nil
}

func (m *memory) set(_ context.Context, key string, value []byte, create bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.settings[key]; ok && create {
		return errRefused
	}
	m.settings[key] = value
	return nil
}

func (m *memory) usage(context.Context) (used, limit int64, err error) { return 0, 0, nil }

func (m *memory) damage() int { return 0 }

func (m *memory) sync(context.Context) error { return nil }

func (m *memory) full() bool { return false }

func (m *memory) heal(context.Context) error { return nil }

func (m *memory) maxMessage() int { return maxPayload }

func (m *memory) close() {
	m.mu.Lock()
	m.closed = true
	m.told.Signal()
	m.mu.Unlock()
	<-m.ended
}

package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store of deliveries, and the receivers that they go to.
type world struct {
	t    *testing.T
	keys standardwebhooks.Keys

	mu     sync.Mutex // protects the fields below
	kept   map[string]job.Delivery
	last   uint64 // position that was given to a delivery
	events map[job.ID][]job.Event
	sent   map[job.ID]job.Cursor
	answer func(r *http.Request) (*http.Response, error)
	read   func(d *job.Delivery) error // called when a delivery was read
	log    *zap.Logger
	got    []request
	busy   map[string]int // by host
	most   map[string]int
}

// request is one try that came to a receiver.
type request struct {
	at   time.Time
	host string
	id   string
	body []byte
}

func newWorld(t *testing.T) *world {
	keys, err := standardwebhooks.ParseKeys(standardwebhooks.NewSecret())
	require.NoError(t, err)
	return &world{
		t: t, keys: keys, kept: map[string]job.Delivery{}, events: map[job.ID][]job.Event{}, sent: map[job.ID]job.Cursor{},
		busy: map[string]int{}, most: map[string]int{}, answer: says(204), read: func(*job.Delivery) error { return nil }, log: zap.NewNop(),
	}
}

// says answers each request with a status, and headers as name, value, name, value…
func says(status int, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(bytes.NewReader(nil))}, nil
	}
}

// hangs takes a connection, and says nothing.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err // so do those of net/http
	}
	body, err := io.ReadAll(r.Body)
	require.NoError(w.t, err)
	if err := w.keys.Verify(r.Header, body); err != nil {
		w.t.Errorf("the signature: %v", err)
	}
	w.mu.Lock()
	w.got = append(w.got, request{time.Now(), r.URL.Host, r.Header.Get("webhook-id"), body})
	w.busy[r.URL.Host]++
	w.most[r.URL.Host] = max(w.most[r.URL.Host], w.busy[r.URL.Host])
	answer := w.answer
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.busy[r.URL.Host]--
	}()
	return answer(r)
}

// receivers sets what they answer from now on.
func (w *world) receivers(answer func(*http.Request) (*http.Response, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// tries returns those that came to a host.
func (w *world) tries(host string) (all []request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.got {
		if r.host == host {
			all = append(all, r)
		}
	}
	return all
}

// underWay returns how many tries are.
func (w *world) underWay() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, busy := range w.busy {
		n += busy
	}
	return n
}

// run runs a Sender on what the store has, until stop.
func (w *world) run() (s *Sender, stop func()) {
	s = New(w, Options{Keys: w.keys, Log: w.log})
	s.secure = w
	w.mu.Lock()
	for _, d := range w.kept {
		if d.State == job.DeliveryPending {
			require.True(w.t, s.Due(&d))
		}
	}
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(w.t.Context())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	return s, func() { cancel(); done.Wait() }
}

// put makes a delivery to a host, of which s is told if it is not nil.
func (w *world) put(s *Sender, host string) *job.Delivery {
	w.mu.Lock()
	w.last++
	event := job.Event{Job: job.NewID(), Place: job.Place{Position: w.last, Epoch: 1}, Record: job.Record{Seq: 3, Type: job.Succeeded, Attempt: 1, Time: time.Now()}}
	now := time.Now().UTC().Truncate(time.Millisecond)
	d := job.Delivery{
		ID: event.Cursor().String(), Job: event.Job, Type: event.Type, URL: "https://" + host + "/hook", State: job.DeliveryPending,
		CreatedAt: now, Since: now, Body: event.WebhookBody(nil),
	}
	w.kept[d.Message()] = d
	w.mu.Unlock()
	if s != nil {
		require.True(w.t, s.Due(&d))
	}
	return &d
}

func (w *world) now(d *job.Delivery) job.Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kept[d.Message()]
}

// count returns how many deliveries are in a state.
func (w *world) count(state job.DeliveryState) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.kept {
		if d.State == state {
			n++
		}
	}
	return n
}

func (w *world) Delivery(_ context.Context, id job.ID, event string) (job.Delivery, error) {
	w.mu.Lock()
	d, ok := w.kept[string(id)+"_"+event]
	read := w.read
	w.mu.Unlock()
	if !ok {
		return d, job.ErrNotFound
	}
	return d, read(&d)
}

func (w *world) Tried(_ context.Context, d *job.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was, ok := w.kept[d.Message()]; !ok || was.Round != d.Round {
		return job.ErrNotFound
	}
	w.kept[d.Message()] = *d
	return nil
}

func (w *world) History(_ context.Context, id job.ID, after job.Cursor, _ int) ([]job.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[id][min(after.Seq, uint64(len(w.events[id]))):], nil
}

func (w *world) Followed(_ context.Context, id job.ID) (job.Cursor, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[id], nil
}

func (w *world) SetFollowed(_ context.Context, id job.ID, after job.Cursor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[id] = after
	return nil
}

// inTime runs test in a bubble of synctest, where days pass at once.
func inTime(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

// pass lets time pass, and all that is due in it happen.
func pass(d time.Duration) {
	time.Sleep(d) // of the bubble: it takes no time
	synctest.Wait()
}

func hostName(n int) string { return fmt.Sprintf("h%d.example", n) }

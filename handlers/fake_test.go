package handlers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// world is all that the routes call: a log in memory, its jobs and its readers. It
// notes each call, and fails those it is told to.
type world struct {
	t      *testing.T
	quit   chan struct{} // closed: the server drains
	budget int           // bytes of a tape
	stores time.Duration // what it takes to store a job
	slow   time.Duration // what it takes to read a block

	mu      sync.Mutex // protects the fields below
	jobs    map[job.ID]*stored
	fails   map[string]error // by the name of the call
	sound   int              // bytes of a result that can be read before Read fails
	calls   []string
	keys    map[string]keyUse
	many    map[string]job.Batch // by key
	kept    map[job.ID][]job.Delivery
	open    int               // readers
	uploads map[string][]byte // by their checksums
	unread  func() error      // why no upload can be read; nil: it can
	id      job.ID            // of the next submit; "": the one it brings
	batch   string            // of the next batch; "": a new one
	room    int               // jobs of a batch that are stored, from its first; 0: all
	last    *job.Request      // of the last submit
	by      string            // of the last cancel
	why     string            // of the last cancel
	query   job.Query         // of the last list
	log     *wholeLog         // nil: positions are those of one job
}

// stored is one job.
type stored struct {
	job     job.Job
	tape    *tape.Tape
	result  []byte
	request *job.Request
}

func newWorld(t *testing.T) *world {
	return &world{t: t, budget: 1 << 20, quit: make(chan struct{}), jobs: map[job.ID]*stored{}, fails: map[string]error{}, keys: map[string]keyUse{}, many: map[string]job.Batch{}, uploads: map[string][]byte{}}
}

func (w *world) call(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, name)
	return w.fails[name]
}

func (w *world) fail(name string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fails[name] = err
}

func (w *world) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// epoch is the life of the store in which all is written.
const epoch = 1

// add appends records to a job's log, all in one message.
func (w *world) add(id job.ID, recs ...job.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.jobs[id]
	at := job.Place{Position: 100 + s.job.Cursor.Seq, Epoch: epoch}
	if w.log != nil {
		at.Position = w.log.position + 1
	}
	var events []job.Event
	for _, r := range recs {
		r.Seq, r.Time = s.job.Cursor.Seq+1, time.Now()
		r.Attempt = max(1, r.Attempt)
		require.NoError(w.t, s.job.Fold(&r, at))
		events = append(events, job.Event{Job: id, Place: at, Record: r})
	}
	require.NoError(w.t, s.tape.Append(events...))
	if w.log != nil {
		w.log.add(&s.job, events)
	}
}

func (w *world) Submit(ctx context.Context, id job.ID, r *job.Request) (job.Job, error) {
	if err := w.call("Submit"); err != nil {
		return job.Job{}, err
	}
	if err := r.Late(time.Now()); err != nil {
		return job.Job{}, err
	}
	w.mu.Lock()
	id, w.id, w.last = cmp.Or(w.id, id), "", r
	w.jobs[id] = &stored{job: job.Job{ID: id, Kind: r.Kind, Owner: r.Owner}, request: r, tape: tape.New(job.Cursor{}, w.budget)}
	w.mu.Unlock()
	w.add(id, job.Record{
		Type: job.Queued, Private: &job.Private{Request: r},
		Data: job.MustData(job.QueuedData{Kind: r.Kind, Attempt: 1, Reason: job.ReasonSubmitted}),
	})
	select { // who does not wait any longer is told so, and there is a job all the same
	case <-time.After(w.stores):
	case <-ctx.Done():
		return job.Job{}, context.Cause(ctx)
	}
	return w.now(id), nil
}

// SubmitOnce knows one key.
func (w *world) SubmitOnce(ctx context.Context, key, fingerprint string, r *job.Request) (job.Job, bool, error) {
	w.mu.Lock()
	used := w.keys[key]
	w.mu.Unlock()
	switch {
	case used.id == "":
		j, err := w.Submit(ctx, job.NewID(), r)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.keys[key] = keyUse{j.ID, fingerprint}
		return j, false, err
	case used.fingerprint != fingerprint:
		return job.Job{}, false, job.Problemf("idempotency-mismatch", "another request")
	}
	return w.now(used.id), true, nil
}

// SubmitAll knows one key, and stores nothing for it but once.
func (w *world) SubmitAll(ctx context.Context, key, fingerprint string, requests []*job.Request) (job.Batch, error) {
	if err := w.call("SubmitAll"); err != nil {
		return job.Batch{}, err
	}
	if b, used := w.many[key+fingerprint]; used {
		b.Replayed = true
		for i, o := range b.Outcomes {
			if o.Err == nil && requests[i] != nil {
				b.Outcomes[i].Job, b.Outcomes[i].Err = w.Job(ctx, o.Job.ID)
			}
		}
		return b, nil
	}
	b := job.Batch{ID: cmp.Or(w.batch, job.NewBatchID()), Outcomes: make([]job.Outcome, len(requests))}
	w.batch = ""
	for i, r := range requests {
		switch {
		case r == nil:
		case w.room > 0 && i >= w.room:
			b.Outcomes[i].Err = job.ErrQueueFull
		default:
			q := *r
			q.Batch = b.ID
			b.Outcomes[i].Job, b.Outcomes[i].Err = w.Submit(ctx, job.IDIn(b.ID, i), &q)
		}
	}
	if key != "" {
		w.many[key+fingerprint] = b
	}
	return b, nil
}

func (w *world) Request(_ context.Context, id job.ID) (*job.Request, error) {
	if err := w.call("Request"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jobs[id].request, nil
}

func (w *world) Deliveries(_ context.Context, id job.ID) ([]job.Delivery, error) {
	return w.kept[id], w.call("Deliveries")
}

func (w *world) Replay(_ context.Context, id job.ID, event string) (job.Delivery, error) {
	if err := w.call("Replay"); err != nil {
		return job.Delivery{}, err
	}
	for _, d := range w.kept[id] {
		if d.ID == event {
			d.State, d.Tries, d.NextAt, d.SettledAt = job.DeliveryPending, 0, time.Now(), time.Time{}
			return d, nil
		}
	}
	return job.Delivery{}, job.ErrNotFound
}

func (w *world) Erase(_ context.Context, id job.ID, _ string) error {
	if err := w.call("Erase"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.jobs, id)
	return nil
}

// keyUse is what an idempotency key was used for.
type keyUse struct {
	id          job.ID
	fingerprint string
}

// begin has the job claimed.
func (w *world) begin(id job.ID) {
	w.add(id, job.Record{Type: job.Running, Data: []byte(`{"attempt":1,"worker":"w","timeout_at":"2000-01-01T00:15:00Z"}`)})
}

// progress has it say how far it is.
func (w *world) progress(id job.ID, n int) {
	w.add(id, job.Record{Type: job.Progress, Data: job.MustData(map[string]int{"progress": n})})
}

// succeed ends it with a JSON result.
func (w *world) succeed(id job.ID, result string) {
	w.succeedWith(id, "application/json", []byte(result))
}

func (w *world) succeedWith(id job.ID, mediaType string, result []byte) {
	sum := sha256.Sum256(result)
	r := &job.Result{Type: mediaType, Size: int64(len(result)), SHA256: hex.EncodeToString(sum[:])}
	data := json.RawMessage(`{"result":` + string(result) + `}`)
	if mediaType != "application/json" {
		data = json.RawMessage(`{"result":` + string(r.Reference(id)) + `}`)
	}
	w.mu.Lock()
	w.jobs[id].result = result
	w.mu.Unlock()
	w.add(id, job.Record{Type: job.Succeeded, Data: data, Private: &job.Private{Result: r}})
}

func (w *world) failJob(id job.ID) {
	p := job.Problemf("exit-status", "exit status 3")
	p.Attempt = 1
	w.add(id, job.Record{Type: job.Failed, Data: job.MustData(map[string]any{"error": p})})
}

func (w *world) now(id job.ID) job.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jobs[id].job
}

func (w *world) edit(id job.ID, f func(*job.Job)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.jobs[id].job)
}

func (w *world) Job(_ context.Context, id job.ID) (job.Job, error) {
	if err := w.call("Job"); err != nil {
		return job.Job{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.jobs[id]; s != nil {
		return s.job, nil
	}
	return job.Job{}, job.Problemf("not-found", "in words of its own")
}

// List has all jobs, whatever they are: what a query is, package index knows. In a world
// that is ordered it has those that are selected.
func (w *world) List(q job.Query) (p job.ListPage) {
	_ = w.call("List")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.query = q
	for id, s := range w.jobs {
		if labels := s.job.Labels(); w.log != nil && !q.Takes(&labels) {
			continue
		}
		p.Jobs = append(p.Jobs, job.ListCursor{Created: s.job.CreatedAt.UnixMilli(), ID: id})
	}
	slices.SortFunc(p.Jobs, func(a, b job.ListCursor) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
	})
	if i := slices.Index(p.Jobs, q.After); i >= 0 {
		p.Jobs = p.Jobs[i+1:]
	}
	if len(p.Jobs) > q.Limit {
		p.Jobs = p.Jobs[:q.Limit]
		p.Next = p.Jobs[q.Limit-1]
	}
	return p
}

func (w *world) Cancel(_ context.Context, id job.ID, by, reason string) (job.Job, error) {
	if err := w.call("Cancel"); err != nil {
		return job.Job{}, err
	}
	w.by, w.why = by, reason
	data := job.MustData(map[string]string{"by": by, "reason": reason})
	switch w.now(id).Status {
	case job.StatusQueued:
		w.add(id, job.Record{Type: job.Canceled, Data: data})
	case job.StatusRunning:
		w.add(id, job.Record{Type: job.CancelRequested, Data: data})
	}
	return w.now(id), nil
}

// file is a result that may fail while it is read.
type file struct {
	*bytes.Reader
	sound int
	err   error
}

func (f file) Read(p []byte) (int, error) {
	read := int(f.Size()) - f.Len()
	if f.err != nil && read >= f.sound {
		return 0, f.err
	}
	if f.err != nil {
		p = p[:min(len(p), f.sound-read)]
	}
	return f.Reader.Read(p)
}

func (f file) Seek(offset int64, whence int) (int64, error) {
	if errors.Is(f.err, io.ErrClosedPipe) {
		return 0, f.err
	}
	return f.Reader.Seek(offset, whence)
}

func (file) Close() error { return nil }

func (w *world) Result(_ context.Context, j job.Job) (io.ReadSeekCloser, error) {
	if err := w.call("Result"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return file{bytes.NewReader(w.jobs[j.ID].result), w.sound, w.fails["Read"]}, nil
}

func (w *world) Ready(context.Context) error { return w.call("Ready") }

func (w *world) Position(job.ID) (int, bool) { return 4, true }

func (w *world) Depth(kind string) (queued, running int) { return len(kind), 1 }

func (w *world) Open(_ context.Context, id job.ID, after job.Cursor) (tape.Reader, error) {
	if err := w.call("Open"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.jobs[id]
	if s == nil {
		return nil, job.ErrNotFound
	}
	m, err := s.tape.Seek(after)
	if err != nil {
		return nil, job.ErrCursor
	}
	w.open++
	return &reader{world: w, tape: s.tape, mark: m}, nil
}

// reader reads a tape, as the hub's readers do.
type reader struct {
	world *world
	tape  *tape.Tape
	mark  tape.Mark
}

// errPanic is the error of a call that does not return.
var errPanic = errors.New("at the disco")

func (r *reader) Next(ctx context.Context, idle <-chan time.Time) (tape.Block, error) {
	err := r.world.call("Next")
	if err == errPanic {
		panic(err)
	}
	if err != nil {
		return tape.Block{}, err
	}
	for {
		changed := r.tape.Changed()
		select {
		case <-time.After(r.world.slow):
		case <-ctx.Done():
		}
		b, next, err := r.tape.Read(r.mark)
		if err != nil || len(b.Bytes) > 0 {
			r.mark = next
			return b, err
		}
		select {
		case <-changed:
		case <-idle:
			return tape.Block{}, nil
		case <-r.world.quit:
			return tape.Block{}, job.ErrDraining
		case <-ctx.Done():
			return tape.Block{}, context.Cause(ctx)
		}
	}
}

func (r *reader) Cursor() job.Cursor { return r.mark.Cursor() }

func (r *reader) Close() {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.world.open--
}

// readers returns how many readers are open.
func (w *world) readers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open
}

// forget drops the calls that were noted.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = nil
}

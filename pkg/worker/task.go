package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// Task is an attempt as the work sees it: its input, and what it can say. The
// methods may be called from any goroutine until the Func returns.
//
// What the work says is stored at once while the job has said little, and joined
// and spaced out from half of its budget of events on: see Write, Log, Emit and
// Progress for what becomes of each. Whoever talks faster than the store takes it
// is held up.
type Task struct {
	a      Attempt
	lim    Limits
	log    *zap.Logger // of the attempt
	all    *zap.Logger // of what is no attempt's
	out    *outbox
	result atomic.Pointer[ResultWriter] // of which a piece is stored
	whole  func() ([]byte, error)       // reads a large input
}

func newTask(ctx context.Context, fail context.CancelCauseFunc, a Attempt, opt Options) *Task {
	log := opt.Log.With(zap.String("job", string(a.Job.ID)), zap.Int("attempt", a.Job.Attempt))
	t := &Task{a: a, lim: opt.Limits, log: log, all: opt.Log, out: newOutbox(ctx, fail, a, opt.Limits)}
	t.whole = sync.OnceValues(func() ([]byte, error) {
		b, err := t.readAll(ctx)
		if err != nil {
			fail(err)
			return nil, err
		}
		return b, nil
	})
	return t
}

// ID returns the job's id.
func (t *Task) ID() job.ID { return t.a.Job.ID }

// Kind returns the job's kind.
func (t *Task) Kind() string { return t.a.Job.Kind }

// Attempt returns the number of the attempt, from 1.
func (t *Task) Attempt() int { return t.a.Job.Attempt }

// Input returns the job's input; it must not be changed. A large one is read into memory
// for that, all of it; if it cannot be read, the attempt ends, and Input returns nothing.
func (t *Task) Input() []byte {
	b, _ := t.input()
	return b
}

func (t *Task) input() ([]byte, error) {
	if t.a.Upload != nil {
		return t.whole()
	}
	return t.a.Input, nil
}

func (t *Task) readAll(ctx context.Context) ([]byte, error) {
	r, err := t.OpenInput(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, t.InputSize())
	_, err = io.ReadFull(r, b)
	return b, err
}

// OpenInput opens the job's input at its beginning, as often as it is asked to: of a large
// one, little is in memory at a time.
func (t *Task) OpenInput(ctx context.Context) (io.ReadCloser, error) {
	if t.a.Upload != nil {
		return t.a.Open(ctx)
	}
	return io.NopCloser(bytes.NewReader(t.a.Input)), nil
}

// InputSize returns the size of the input in bytes.
func (t *Task) InputSize() int64 {
	if t.a.Upload != nil {
		return t.a.Upload.Size
	}
	return int64(len(t.a.Input))
}

// InputType returns the media type of the input.
func (t *Task) InputType() string { return t.a.InputType }

// Bind decodes the input, which is JSON, into v. Its error ends the job: another
// attempt would read the same input.
func (t *Task) Bind(v any) error {
	input, err := t.input()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(input, v); err != nil {
		return job.Problemf("invalid-input", "input: %v", err)
	}
	return nil
}

// maxProgress bounds a message of progress and maxStream the name of a stream: both
// are labels. What is longer ends with an ellipsis.
const (
	maxProgress = 4 << 10
	maxStream   = 64
)

// Progress says how far the attempt is: done of total, or of an unknown total if
// that is 0. Only the latest value counts: a falling one is dropped, and of those
// that come faster than the rate of the limits the last is kept and stored when
// its time comes, or when the attempt ends.
func (t *Task) Progress(done, total float64, message string) {
	t.out.progress(progressData{Progress: done, Total: total, Message: clip(message, maxProgress)})
}

// Write says a piece of the output. Whole lines go out at once, the rest of a line
// a moment later. Under pressure pieces are joined; their bytes stay the same.
// Behind the limit of bytes the output is cut, which a job.log says; Write goes on
// as if nothing had happened.
func (t *Task) Write(p []byte) (int, error) { return t.out.write(p) }

// Log says a line for people. Under pressure an event's line is several lines of
// the stream, joined by newlines.
func (t *Task) Log(stream, line string) {
	t.logLine(clip(stream, maxStream), []byte(strings.TrimRight(line, "\r\n")))
}

func (t *Task) logLine(stream string, line []byte) {
	line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	for {
		n := fit(line, t.out.chunk)
		t.out.logLine(stream, line[:n])
		if line = line[n:]; len(line) == 0 {
			return
		}
	}
}

// say is a job.log of Millstream's own.
func (t *Task) say(format string, args ...any) {
	t.Log(ownStream, fmt.Sprintf(format, args...))
}

// ownStream is the stream of what Millstream itself has to say about an attempt.
const ownStream = "millstream"

// ErrName is the error of an event whose name a worker may not use.
var ErrName = errors.New("not a name for a worker's events")

// Emit says an event of the worker's own: any name but job.* and stream.*. Each is
// stored as it is, so under pressure Emit waits for the event's turn, of which
// there are a hundred a second. Data that is too large, or nested deeper than
// job.MaxDepth, is left out, which a job.log says, and the error is
// job.ErrTooLarge; so is an event behind the limit of bytes, or far behind that of
// events.
func (t *Task) Emit(name string, data any) error {
	typ := job.Type(name)
	if !job.ValidType(typ) || typ.Reserved() {
		return fmt.Errorf("%q: %w", clip(name, maxStream), ErrName)
	}
	d, err := job.Data(data)
	if err != nil {
		return err
	}
	switch {
	case len(d) > t.lim.Event:
		t.say("an event %s of %d bytes is larger than %d and was left out", name, len(d), t.lim.Event)
		return fmt.Errorf("event %s of %d bytes: %w", name, len(d), job.ErrTooLarge)
	case job.Deep(d):
		t.say("an event %s is nested deeper than %d and was left out", name, job.MaxDepth)
		return fmt.Errorf("event %s, nested deeper than %d: %w", name, job.MaxDepth, job.ErrTooLarge)
	}
	return t.out.emit(typ, d)
}

// clip returns s, or the beginning of it and an ellipsis if it is longer than n.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

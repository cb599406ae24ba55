package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/millstream/millstream/pkg/job"
)

// Result is a result of any media type that fits in memory.
type Result struct {
	Type string // media type; "", or what is none, is application/octet-stream
	Body []byte
}

// Output as a result says that what the attempt has written is the result.
type Output struct {
	Type string // media type; "" is text/plain; charset=utf-8
}

// The media types of results that do not name their own.
const (
	typeJSON  = "application/json"
	typeText  = "text/plain; charset=utf-8"
	typeBytes = "application/octet-stream"
)

// ResultWriter takes a result that is too large for memory: it stores what is
// written piece by piece. The Func returns it as its result.
type ResultWriter struct {
	t     *Task
	typ   string
	tally tally
	buf   []byte

	answer *job.Answer // of a route: what the bytes are the body of
}

// NewResult returns a writer for the attempt's result. An attempt has one result:
// once a piece of it is stored there can be no other.
func (t *Task) NewResult(mediaType string) *ResultWriter {
	return &ResultWriter{t: t, typ: mediaType, tally: newTally()}
}

// Write adds p to the result.
func (w *ResultWriter) Write(p []byte) (int, error) {
	if limit := w.t.lim.Result; w.tally.size+int64(len(p)) > limit {
		return 0, job.Problemf("invalid-result", "the result is larger than %d bytes", limit)
	}
	w.tally.add(p)
	for n := 0; n < len(p); {
		if len(w.buf) == MaxPiece { // more follows, so this is not the last piece
			if err := w.attach(); err != nil {
				return n, err
			}
		}
		m := min(len(p)-n, MaxPiece-len(w.buf))
		w.buf = append(w.buf, p[n:n+m]...)
		n += m
	}
	return len(p), nil
}

// attach stores the piece, and takes its memory for the next: however large a result
// is, no more than one piece of it is here.
func (w *ResultWriter) attach() error {
	if !w.t.result.CompareAndSwap(nil, w) && w.t.result.Load() != w {
		return errTwoResults()
	}
	piece := w.buf
	w.buf = nil
	err := w.t.out.call(func(ctx context.Context) error { return w.t.a.Sink.Attach(ctx, piece) })
	if err == nil {
		w.buf = piece[:0]
	}
	return err
}

func errTwoResults() error {
	return job.Problemf("invalid-result", "the attempt began to store one result and then had another")
}

// outcome makes what the Func returned into the attempt's outcome.
func (t *Task) outcome(v any) (Outcome, error) {
	w, ok := v.(*ResultWriter)
	if ok && (w == nil || w.t != t) || t.result.Load() != nil && t.result.Load() != w {
		return Outcome{}, errTwoResults()
	}
	switch v := v.(type) {
	case nil:
		y := newTally()
		return t.succeeded(json.RawMessage("null"), y.result(""), nil), nil
	case Output:
		return t.wrote(v), nil
	case *ResultWriter:
		r := v.tally.result(v.typ)
		r.Answer = v.answer
		return t.made(&v.tally, r, v.buf), nil
	case Result:
		return t.body(v.Type, v.Body)
	case []byte:
		return t.body(typeBytes, v)
	case string:
		if !utf8.ValidString(v) {
			return t.body(typeBytes, []byte(v))
		}
		return t.body(typeText, []byte(v))
	}
	d, err := job.Data(v)
	if err != nil {
		return Outcome{}, job.Problemf("invalid-result", "the result does not encode as JSON: %v", err)
	}
	return t.body(typeJSON, d)
}

func (t *Task) body(mediaType string, b []byte) (Outcome, error) {
	w := t.NewResult(mediaType)
	if _, err := w.Write(b); err != nil {
		return Outcome{}, err
	}
	return t.made(&w.tally, w.tally.result(w.typ), w.buf), nil
}

// wrote is the outcome of an attempt whose output is its result.
func (t *Task) wrote(v Output) Outcome {
	if v.Type == "" {
		v.Type = typeText
	}
	r := t.out.out.result(v.Type)
	r.Output, r.Truncated = true, t.out.dropped > 0
	return t.made(&t.out.out, r, nil)
}

// made is the outcome of an attempt with the result r, of which y knows the bytes.
func (t *Task) made(y *tally, r *job.Result, piece []byte) Outcome {
	if !job.ValidMediaType(r.Type) {
		r.Type = typeBytes
	}
	value, ok := y.inline(r.Type)
	if !ok || r.Truncated || !r.Plain() { // a reader of the value alone would not know that it was cut, or is a refusal
		value = r.Reference(t.ID())
	}
	return t.succeeded(value, r, piece)
}

func (t *Task) succeeded(value json.RawMessage, r *job.Result, piece []byte) Outcome {
	r.Lease = t.a.Job.Lease
	return Outcome{
		Record: job.Record{
			Type:    job.Succeeded,
			Data:    slices.Concat([]byte(`{"result":`), value, []byte{'}'}),
			Private: &job.Private{Result: r},
		},
		Piece: piece,
	}
}

// tally knows a result without keeping more of it than may stand inline.
type tally struct {
	hash hash.Hash
	size int64
	head []byte
}

func newTally() tally { return tally{hash: sha256.New()} }

func (y *tally) add(p []byte) {
	y.hash.Write(p)
	y.size += int64(len(p))
	y.head = append(y.head, p[:min(len(p), job.MaxInline-len(y.head))]...)
}

func (y *tally) result(mediaType string) *job.Result {
	return &job.Result{Type: mediaType, Size: y.size, SHA256: hex.EncodeToString(y.hash.Sum(nil))}
}

// inline returns the result as it stands in the job, if it can: JSON as it is, and
// UTF-8 text as a string.
func (y *tally) inline(mediaType string) (json.RawMessage, bool) {
	if y.size > job.MaxInline || !utf8.Valid(y.head) {
		return nil, false
	}
	t, params, err := mime.ParseMediaType(mediaType)
	switch {
	case err != nil:
		return nil, false
	case job.IsJSON(mediaType):
		var b bytes.Buffer
		err := json.Compact(&b, y.head)
		return b.Bytes(), err == nil && !job.Deep(b.Bytes())
	case strings.HasPrefix(t, "text/") && isUTF8(params["charset"]):
		return job.MustJSON(string(y.head)), true
	}
	return nil, false
}

func isUTF8(charset string) bool {
	switch strings.ToLower(charset) {
	case "", "utf-8", "us-ascii":
		return true
	}
	return false
}

package worker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// requireResult checks what the outcome says of a result.
func requireResult(t require.TestingT, out worker.Outcome, body []byte, mediaType string) *job.Result {
	require.Equal(t, job.Succeeded, out.Record.Type)
	require.NotNil(t, out.Record.Private)
	r := out.Record.Private.Result
	require.NotNil(t, r)
	sum := sha256.Sum256(body)
	require.Equal(t, hex.EncodeToString(sum[:]), r.SHA256)
	require.Equal(t, int64(len(body)), r.Size)
	require.Equal(t, mediaType, r.Type)
	require.Equal(t, uint64(lease), r.Lease)
	require.True(t, json.Valid(out.Record.Data))
	return r
}

// body returns the result's bytes as the store has them.
func (s *sink) body(out worker.Outcome) []byte {
	return append(bytes.Join(s.pieces, nil), out.Piece...)
}

func TestResults(t *testing.T) {
	type point struct{ X, Y int }
	text, jsonType, octets := "text/plain; charset=utf-8", "application/json", "application/octet-stream"
	long := strings.Repeat("x", job.MaxInline)
	deep := strings.Repeat("[", job.MaxDepth) + strings.Repeat("]", job.MaxDepth)
	for _, tt := range []struct {
		name   string
		value  any
		typ    string
		body   string
		inline string // "": by reference
	}{
		{"nil", nil, "", "", "null"},
		{"string", "a <b>\n", text, "a <b>\n", `"a <b>\n"`},
		{"empty string", "", text, "", `""`},
		{"string that is none", "\xff", octets, "\xff", ""},
		{"bytes", []byte("abc"), octets, "abc", ""},
		{"struct", point{1, 2}, jsonType, `{"X":1,"Y":2}`, `{"X":1,"Y":2}`},
		{"number", 12345678901234567, jsonType, "12345678901234567", "12345678901234567"},
		{"raw JSON", json.RawMessage("[1,\n2]"), jsonType, "[1,2]", "[1,2]"},
		{"JSON bytes", worker.Result{Type: "application/problem+json", Body: []byte("{\"a\":\n1e400}")}, "application/problem+json", "{\"a\":\n1e400}", `{"a":1e400}`},
		{"JSON that is none", worker.Result{Type: jsonType, Body: []byte("{")}, jsonType, "{", ""},
		{"JSON that is not UTF-8", worker.Result{Type: jsonType, Body: []byte("\"\xff\"")}, jsonType, "\"\xff\"", ""},
		{"text", worker.Result{Type: "text/html", Body: []byte("<p>")}, "text/html", "<p>", `"<p>"`},
		{"text in another charset", worker.Result{Type: "text/plain; charset=iso-8859-1", Body: []byte("é")}, "text/plain; charset=iso-8859-1", "é", ""},
		{"no type", worker.Result{Body: []byte("abc")}, octets, "abc", ""},
		{"JSON as deep as it may be", json.RawMessage(deep), jsonType, deep, deep},
		{"JSON that is too deep", json.RawMessage("[" + deep + "]"), jsonType, "[" + deep + "]", ""},
		{"the longest inline", long, text, long, `"` + long + `"`},
		{"too long for inline", long + "x", text, long + "x", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s sink
			out, err := s.run(t, func(context.Context, *worker.Task) (any, error) { return tt.value, nil })
			require.NoError(t, err)
			r := requireResult(t, out, []byte(tt.body), tt.typ)
			require.Equal(t, tt.body, string(s.body(out)))
			want := tt.inline
			if want == "" {
				want = string(r.Reference("job_01k3z9qv3sf1b8w6t6e2m0x4ya"))
			}
			require.Equal(t, `{"result":`+want+`}`, string(out.Record.Data))
			require.False(t, r.Output)
		})
	}
}

// What is no media type, or could not go into a header, is that of any bytes.
func TestResultTypes(t *testing.T) {
	for typ, valid := range map[string]bool{
		"text/plain;charset=utf-8":          true,
		"application/vnd.x+json; a=\"b c\"": true,
		"text/html; charset":                true, // not quite; but the type is clear
		"text":                              false,
		"text/":                             false,
		"text/plain/x":                      false,
		"text/plain\r\nSet-Cookie: a=b":     false,
		"text/plain; a=\"\x00\"":            false,
		"text/plain; a=é":                   false,
		"text/" + strings.Repeat("x", 251):  false,
		"text/" + strings.Repeat("x", 250):  true,
	} {
		var s sink
		out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			_, _ = task.Write([]byte("abc"))
			return worker.Output{Type: typ}, nil
		})
		require.NoError(t, err)
		if !valid {
			typ = "application/octet-stream"
		}
		requireResult(t, out, []byte("abc"), typ)
	}
}

func TestResultThatIsNoJSON(t *testing.T) {
	for _, v := range []any{func() {}, json.RawMessage("{")} {
		var s sink
		_, err := s.run(t, func(context.Context, *worker.Task) (any, error) { return v, nil })
		requireProblem(t, err, "invalid-result", false)
	}
}

func TestLargeResultGoesByPieces(t *testing.T) {
	for _, size := range []int{0, 1, worker.MaxPiece - 1, worker.MaxPiece, worker.MaxPiece + 1, 3 * worker.MaxPiece, 3*worker.MaxPiece + 7} {
		want := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		pieces := max(0, (size-1)/worker.MaxPiece)

		var s sink
		out, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
			w := task.NewResult("video/mp4")
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 100_003)
				_, err := w.Write(rest[:n])
				require.NoError(t, err)
				rest = rest[n:]
			}
			require.Len(t, s.pieces, pieces, "pieces go as they come")
			return w, nil
		})
		require.NoError(t, err)
		requireResult(t, out, want, "video/mp4")
		require.True(t, bytes.Equal(want, s.body(out)))
		require.Len(t, s.pieces, pieces)
		require.Equal(t, size > 0, len(out.Piece) > 0, "the last piece is in the outcome")

		s = sink{}
		out, err = s.run(t, func(context.Context, *worker.Task) (any, error) { return want, nil })
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, s.body(out)))
	}
}

// However large a result is, it takes the memory of one piece.
func TestLargeResultTakesOnePiece(t *testing.T) {
	var s sink
	var memory []*byte
	s.attach = func(piece []byte) error {
		memory = append(memory, unsafe.SliceData(piece))
		return nil
	}
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		w := task.NewResult("video/mp4")
		_, err := io.CopyN(w, zeros{}, 20*worker.MaxPiece+1)
		return w, err
	})
	require.NoError(t, err)
	require.Len(t, memory, 20)
	require.Len(t, slices.Compact(memory), 1)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// A piece that was not stored, and what would follow it, does not go to the store
// again: it may be on its way still.
func TestResultEndsWithAnErrorOfTheStore(t *testing.T) {
	calls := 0
	s := sink{attach: func([]byte) error { calls++; return job.ErrLeaseLost }}
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		w := task.NewResult("video/mp4")
		for range 3 {
			_, err := w.Write(make([]byte, 2*worker.MaxPiece))
			require.ErrorIs(t, err, job.ErrLeaseLost)
		}
		return w, nil
	})
	require.ErrorIs(t, err, job.ErrLeaseLost)
	require.Equal(t, 1, calls)
}

func TestResultHasALimit(t *testing.T) {
	var s sink
	opt := worker.Options{Limits: worker.Limits{Result: 10}}
	_, err := s.runAttempt(t, func(context.Context, *worker.Task) (any, error) { return "elevenbytes", nil }, s.attempt(""), opt)
	requireProblem(t, err, "invalid-result", false)
	_, err = s.runAttempt(t, func(context.Context, *worker.Task) (any, error) { return "ten bytes.", nil }, s.attempt(""), opt)
	require.NoError(t, err)
}

func TestTwoResultsAreNone(t *testing.T) {
	for name, another := range map[string]func(*worker.Task) (any, error){
		"a small one":      func(*worker.Task) (any, error) { return "another", nil },
		"nothing":          func(*worker.Task) (any, error) { return nil, nil },
		"an unstored one":  func(task *worker.Task) (any, error) { return task.NewResult("video/mp4"), nil },
		"another large":    func(*worker.Task) (any, error) { return make([]byte, 2*worker.MaxPiece), nil },
		"one that follows": func(task *worker.Task) (any, error) { return written(task.NewResult("video/mp4")) },
	} {
		t.Run(name, func(t *testing.T) {
			var s sink
			_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
				_, err := written(task.NewResult("video/mp4"))
				require.NoError(t, err)
				return another(task)
			})
			requireProblem(t, err, "invalid-result", false)
			require.Len(t, s.pieces, 1)
		})
	}
}

// written writes as much as is not kept in memory.
func written(w *worker.ResultWriter) (any, error) {
	_, err := w.Write(make([]byte, worker.MaxPiece+1))
	return w, err
}

// One that was asked for, and is not stored, is in nobody's way; one of another
// attempt is.
func TestResultsThatAreNotStored(t *testing.T) {
	var s sink
	var of *worker.ResultWriter
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		of = task.NewResult("video/mp4")
		_, _ = of.Write([]byte("abc"))
		return written(task.NewResult("video/mp4"))
	})
	require.NoError(t, err)
	for _, foreign := range []*worker.ResultWriter{of, nil} {
		_, err = s.run(t, func(context.Context, *worker.Task) (any, error) { return foreign, nil })
		requireProblem(t, err, "invalid-result", false)
	}
}

func TestResultIsNotStoredBehindALostLease(t *testing.T) {
	s := sink{refuse: func(job.Record) error { return job.ErrLeaseLost }}
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		_ = task.Emit("own", 1)
		return task.NewResult("video/mp4"), nil
	})
	require.ErrorIs(t, err, job.ErrLeaseLost)
}

// What a function has left behind may write on, but the store does not hear of it once
// the attempt is over.
func TestResultWriterOfAnAttemptThatIsOver(t *testing.T) {
	var s sink
	over, written := make(chan struct{}), make(chan error)
	_, err := s.run(t, func(_ context.Context, task *worker.Task) (any, error) {
		go func() {
			<-over
			_, err := task.NewResult("").Write(make([]byte, worker.MaxPiece+1))
			written <- err
		}()
		return "done", nil
	})
	require.NoError(t, err)
	close(over)
	require.ErrorContains(t, <-written, "the attempt is over")
	require.Empty(t, s.pieces)
}

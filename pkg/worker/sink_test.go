package worker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

const (
	maxMessage = 1<<20 - 64<<10 // what a NATS server takes, but for headers
	lease      = 2
)

type used struct {
	events int
	bytes  int64
}

// sink is a store in memory. The zero value keeps everything at once.
type sink struct {
	delay    time.Duration          // of each call
	refuse   func(job.Record) error // asked for each record before it is stored
	onRecord func(job.Record)       // told of each record that was
	attach   func([]byte) error     // takes the pieces of a result
	hang     bool                   // every call waits for the end of its context

	before used // by earlier attempts

	busy   atomic.Bool
	mu     sync.Mutex
	recs   []job.Record
	bytes  int64
	calls  int
	pieces [][]byte
	wrong  string // a call against the contract
}

func (s *sink) enter() func() {
	if s.busy.Swap(true) {
		s.wrong = "two calls at once"
	}
	return func() { s.busy.Store(false) }
}

func (s *sink) Append(ctx context.Context, recs ...job.Record) error {
	defer s.enter()()
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	size := 0
	for _, r := range recs {
		if s.refuse != nil {
			if err := s.refuse(r); err != nil {
				return err
			}
		}
		if size += len(r.Data) + 200; size > maxMessage || !json.Valid(r.Data) || bytes.ContainsAny(r.Data, "\n\t") {
			s.wrong = "a message that is too large, or data that is not one line of JSON"
		}
		s.recs = append(s.recs, r)
		s.bytes += int64(len(r.Data))
		if s.onRecord != nil {
			s.onRecord(r)
		}
	}
	return nil
}

func (s *sink) Attach(ctx context.Context, piece []byte) error {
	defer s.enter()()
	if err := s.wait(ctx); err != nil {
		return err
	}
	if len(piece) > worker.MaxPiece {
		s.wrong = "a piece that is too large"
	}
	if s.attach != nil {
		return s.attach(piece)
	}
	s.pieces = append(s.pieces, slices.Clone(piece))
	return nil
}

func (s *sink) wait(ctx context.Context) error {
	if s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.delay > 0 {
		time.Sleep(s.delay) // virtual: only in a bubble
	}
	return nil
}

func (s *sink) Used() (events int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before.events + len(s.recs), s.before.bytes + s.bytes
}

// stored returns the records there are. A test may ask in the midst of an attempt.
func (s *sink) stored() []job.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.recs)
}

// of returns the records of a type.
func (s *sink) of(typ job.Type) []job.Record {
	var recs []job.Record
	for _, r := range s.stored() {
		if r.Type == typ {
			recs = append(recs, r)
		}
	}
	return recs
}

// data returns the data of the records of a type.
func (s *sink) data(typ job.Type) []string {
	var data []string
	for _, r := range s.of(typ) {
		data = append(data, string(r.Data))
	}
	return data
}

type chunk struct {
	Index    int
	Chunk    string
	Encoding string
}

// output puts the chunks together, and checks that they are numbered and may be in
// an event.
func (s *sink) output(t require.TestingT) []byte {
	var out []byte
	for i, r := range s.of(job.Output) {
		var c chunk
		require.NoError(t, json.Unmarshal(r.Data, &c))
		require.Equal(t, i, c.Index)
		require.LessOrEqual(t, len(r.Data), worker.DefaultLimits.Event)
		b := []byte(c.Chunk)
		if c.Encoding != "" {
			require.Equal(t, "base64", c.Encoding)
			var err error
			b, err = base64.StdEncoding.DecodeString(c.Chunk)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, len(b), 64<<10)
		out = append(out, b...)
	}
	return out
}

type logLine struct{ Stream, Line string }

func (s *sink) logs(t require.TestingT) []logLine {
	var lines []logLine
	for _, r := range s.of(job.Log) {
		var l logLine
		require.NoError(t, json.Unmarshal(r.Data, &l))
		lines = append(lines, l)
	}
	return lines
}

// attempt returns an attempt, the last one, at a job with the input.
func (s *sink) attempt(input string) worker.Attempt {
	return worker.Attempt{
		Job: job.Job{
			ID: "job_01k3z9qv3sf1b8w6t6e2m0x4ya", Kind: "test", Status: job.StatusRunning,
			Attempt: 1, MaxAttempts: 1, Lease: lease,
			Request: &job.Request{Timeout: 15 * time.Minute},
		},
		Input:     []byte(input),
		InputType: "text/plain",
		Sink:      s,
	}
}

// run runs fn, and checks what is true of every run.
func (s *sink) run(t *testing.T, fn worker.Func) (worker.Outcome, error) {
	t.Helper()
	return s.runAttempt(t, fn, s.attempt(""), worker.Options{})
}

func (s *sink) runAttempt(t *testing.T, fn worker.Func, a worker.Attempt, opt worker.Options) (worker.Outcome, error) {
	t.Helper()
	out, err := worker.Run(t.Context(), fn, a, opt)
	require.Empty(t, s.wrong)
	return out, err
}

func requireProblem(t require.TestingT, err error, name string, retryable bool) *job.Problem {
	var p *job.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, name, p.Name(), err)
	require.Equal(t, retryable, p.Retryable)
	require.Contains(t, job.Titles, name)
	return p
}

// Package worker runs one attempt at a job and turns what the work says into
// records: Go functions, commands, HTTP upstreams, and what pull workers report. It
// knows neither the broker nor the HTTP API.
package worker

import (
	"context"
	"io"

	"github.com/millstream/millstream/pkg/job"
)

// Sink stores what an attempt says. Every call returns when the store has it, or
// with job.ErrLeaseLost once the job belongs to another attempt; any error is
// final, and the last call. It is called from one goroutine at a time and may keep
// the records it is given.
type Sink interface {
	// Append stores records behind the job's others, in one message. Seq, Attempt
	// and Time are filled in by the sink.
	Append(ctx context.Context, recs ...job.Record) error
	// Attach stores a piece of the result, MaxPiece bytes, beside the records. The
	// last piece, of any size, goes with the Outcome. The piece is the caller's again
	// once it is stored.
	Attach(ctx context.Context, piece []byte) error
	// Used returns how many events the job has and how many bytes they take, all
	// attempts together.
	Used() (events int, bytes int64)
}

// MaxPiece is the size of all pieces of a result but the last, which is no larger.
const MaxPiece = job.PieceSize

// Attempt is a claimed job on its way through a worker.
type Attempt struct {
	Job       job.Job // as it stood when it was claimed: ID, Kind, Attempt, Lease
	Input     []byte
	Upload    *job.Upload                                      // in place of Input; nil: there is none
	Open      func(ctx context.Context) (io.ReadCloser, error) // opens the Upload at its beginning, as often as it is asked to
	InputType string                                           // media type of the input
	Call      *job.Call                                        // of a route: what the input is the body of
	Sink      Sink
	Hold      Hold // of a pull kind; nil for any other
}

// Hold is what the attempt of a pull kind needs beside its Sink: it may have begun in
// a process before this one, and its worker is told how it ended.
type Hold interface {
	// Earlier calls each with what the attempt had stored when this process began.
	Earlier(ctx context.Context, each func(*job.Record)) error
	// Finish says that the attempt ends as its worker says, whatever it comes to.
	Finish()
	// Ended is closed when how it ended is stored, or cannot be any more.
	Ended() <-chan struct{}
}

// Outcome is what an attempt that succeeded leaves: the terminal record, and the
// last piece of the result's bytes, stored in the same message.
type Outcome struct {
	Record job.Record // Type, Data and Private.Result; the rest is filled in where it is stored
	Piece  []byte
}

// Func is slow work. It reports through its Task and returns the result: a
// Result, []byte, string, nil, or anything that encodes as JSON; the ResultWriter
// it wrote a large one to; or Output if what it has written is the result. It must
// return when ctx ends; context.Cause tells why. An error that is a *job.Problem
// says itself whether another attempt may help; any other error is retried.
type Func func(ctx context.Context, t *Task) (any, error)

package tape

import (
	"context"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Capped is a Reader of many jobs.
type Capped interface {
	Reader

	// Cap says how many events a block has at most from now on; 0: as many as fit. So who
	// needs no more stops where the reader does, and may be taken up from there.
	Cap(events int)
}

// Reader is a cursor in one job's log. It is not for concurrent use.
type Reader interface {
	// Next returns the events behind those it returned last, as one block, and
	// waits for the first of them. An empty block and no error: idle fired first.
	// io.EOF: the job is over and all was read. job.ErrDraining: the server stops.
	// Any other error: the store cannot be asked now.
	Next(ctx context.Context, idle <-chan time.Time) (Block, error)

	// Cursor returns the id of the last event that Next returned, or the place
	// where the reader began.
	Cursor() job.Cursor

	// Close ends the reader.
	Close()
}

package job

import "strings"

// Batch is what became of jobs that were submitted together.
type Batch struct {
	ID       string
	Replayed bool      // its idempotency key was used before
	Outcomes []Outcome // one for each request, in their order
}

// Outcome is what became of one request of a batch: a job, unless Err says why there is
// none.
type Outcome struct {
	Job Job
	Err error
}

const (
	// MaxBatch is how many jobs a batch may have: as many as one answer can tell of, and no
	// more than two characters of an id can count.
	MaxBatch = 1000

	batchPrefix = "batch_"
	timeLen     = 10 // characters that are the time in an id; two behind them count the jobs of a batch
)

// NewBatchID returns a fresh id of a batch: "batch_", and what stands in the id of a job
// behind "job_".
func NewBatchID() string { return batchPrefix + strings.TrimPrefix(string(NewID()), idPrefix) }

// ValidBatchID reports whether s could be the id of a batch.
func ValidBatchID(s string) bool {
	rest, ok := strings.CutPrefix(s, batchPrefix)
	return ok && ValidID(idPrefix+rest)
}

// IDIn returns the id of the n-th job of a batch, from 0: whoever stores it again stores
// the same job. They sort as they stand in the batch.
func IDIn(batch string, n int) ID {
	id := []byte(idPrefix + strings.TrimPrefix(batch, batchPrefix))
	at := len(idPrefix) + timeLen
	id[at], id[at+1] = crockford[n>>5], crockford[n&31]
	return ID(id)
}

// IndexIn returns which job of its batch the id names.
func (id ID) IndexIn() int {
	at := len(idPrefix) + timeLen
	return strings.IndexByte(crockford, id[at])<<5 | strings.IndexByte(crockford, id[at+1])
}

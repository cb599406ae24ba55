package job

import (
	"encoding/json"
	"time"
)

// MaxCheckpoint is the size of a checkpoint: every job that runs holds one in memory,
// and what is larger belongs where the worker's other files are.
const MaxCheckpoint = 64 << 10

// Lease is an attempt in the hands of a pull worker.
type Lease struct {
	Job       Job // as it stood when it was claimed; its Lease is what fences the worker's events
	Input     []byte
	Upload    *Upload // in place of Input
	InputType string
	Expires   time.Time // unless the worker says something before
	Until     time.Time // when the attempt times out
}

// Said is one event as a pull worker says it.
type Said struct {
	Type Type            `json:"type"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Standing is how a lease stands once what its worker said is stored.
type Standing struct {
	Expires time.Time
	Cancel  bool // somebody asked the job to stop
}

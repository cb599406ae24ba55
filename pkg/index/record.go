package index

import (
	"bytes"
	"cmp"

	"github.com/millstream/millstream/pkg/job"
)

// record is what is known of a job without asking the log: 64 bytes. What a text is
// stands in a pool.
type record struct {
	id      [16]byte
	created int64  // Unix milliseconds
	expires int64  // Unix milliseconds; 0: it lives
	last    uint64 // position of its last event

	kind, owner, batch uint32
	tags               uint32 // in the pool of sets

	next   uint32 // of those that are forgotten in the same turn, or of the free ones
	status status
	placed bool // it is in the order: of a job that was never seen whole there is only the id
}

// status is a job.Status in a byte; 0 is that of a job that is damaged.
type status uint8

// statuses are the texts, by status.
var statuses = [...]job.Status{"", job.StatusQueued, job.StatusRunning, job.StatusSucceeded, job.StatusFailed, job.StatusCanceled}

func statusOf(s job.Status) status {
	for i, text := range statuses {
		if s == text {
			return status(i)
		}
	}
	return 0
}

func (r *record) expired(now int64) bool { return r.expires > 0 && now >= r.expires }

// place is where a job stands in the order of all: by its creation, then by its id.
type place struct {
	created int64
	id      [16]byte
}

func (r *record) place() place { return place{r.created, r.id} }

func (p place) cursor() job.ListCursor {
	return job.ListCursor{Created: p.created, ID: job.IDOf(p.id)}
}

func compare(a, b place) int {
	if c := cmp.Compare(a.created, b.created); c != 0 {
		return c
	}
	return bytes.Compare(a.id[:], b.id[:])
}

// slabSize is how many records are allocated at once: 64 KiB.
const slabSize = 1 << 10

// records are addressed by handles of four bytes, not eight, and without pointers
// there is nothing in them for the garbage collector. Handle 0 is nobody's.
type records struct {
	slabs []*[slabSize]record
	used  uint32 // handles that were ever given out, with 0
	free  uint32 // the first of the free ones
}

func (s *records) at(h uint32) *record { return &s.slabs[h/slabSize][h%slabSize] }

// take returns the handle of an empty record.
func (s *records) take() uint32 {
	if h := s.free; h != 0 {
		r := s.at(h)
		s.free = r.next
		*r = record{}
		return h
	}
	h := max(s.used, 1)
	if int(h/slabSize) == len(s.slabs) {
		s.slabs = append(s.slabs, new([slabSize]record))
	}
	s.used = h + 1
	return h
}

func (s *records) give(h uint32) {
	*s.at(h) = record{next: s.free}
	s.free = h
}

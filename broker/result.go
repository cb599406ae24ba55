package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/millstream/millstream/pkg/job"
)

// Result opens the bytes of a succeeded job's result. They are read from the
// job's log as they are asked for, a message at a time.
func (b *Broker) Result(ctx context.Context, j job.Job) (io.ReadSeekCloser, error) {
	if j.Status != job.StatusSucceeded || j.Result == nil {
		return nil, job.ErrNotFound
	}
	return &result{b: b, ctx: ctx, id: j.ID, of: *j.Result}, nil
}

// result walks over the pieces of a result.
type result struct {
	b   *Broker
	ctx context.Context
	id  job.ID
	of  job.Result

	offset   int64  // of the next byte that Read returns
	piece    []byte // what was read of the log and not yet returned
	at       int64  // offset of piece in the result
	position uint64 // of the last message that was read
	inside   bool   // the walk is between the attempt's job.running and its end
}

// readAhead is how many bytes of a result are taken out of the log at once.
const readAhead = 1 << 20

func (r *result) Read(p []byte) (int, error) {
	if r.offset >= r.of.Size {
		return 0, io.EOF
	}
	for r.at+int64(len(r.piece)) <= r.offset {
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.piece[r.offset-r.at:])
	r.offset += int64(n)
	return n, nil
}

// advance takes the next pieces out of the log.
func (r *result) advance() error {
	r.at += int64(len(r.piece))
	var next []byte
	var bad error
	err := r.b.each(r.ctx, r.id, r.position, func(position uint64, m *frame) bool {
		r.position = position
		next, bad = r.take(next, m)
		return bad == nil && len(next) < readAhead
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	if len(next) == 0 {
		return unavailable(fmt.Errorf("result of job %s ends at byte %d of %d", r.id, r.at, r.of.Size))
	}
	r.piece = next
	return nil
}

// take appends to b what m has of the result.
func (r *result) take(b []byte, m *frame) ([]byte, error) {
	if !r.of.Output {
		if m.Lease == r.of.Lease {
			b = append(b, m.Attachment...)
		}
		return b, nil
	}
	for i := range m.Records {
		rec := &m.Records[i]
		if rec.Type == job.Running {
			r.inside = rec.Seq == r.of.Lease
		}
		if rec.Type != job.Output || !r.inside {
			continue
		}
		chunk, err := chunkOf(rec.Data)
		if err != nil {
			return nil, err
		}
		b = append(b, chunk...)
	}
	return b, nil
}

// chunkOf returns the bytes of a job.output.
func chunkOf(data []byte) ([]byte, error) {
	var d struct {
		Chunk    string `json:"chunk"`
		Encoding string `json:"encoding"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("job.output: %w", err)
	}
	if d.Encoding == "base64" {
		return base64.StdEncoding.DecodeString(d.Chunk)
	}
	return []byte(d.Chunk), nil
}

// Seek sets the offset of the next Read. Going back reads the log again.
func (r *result) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.of.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start of the result")
	}
	if offset < r.at {
		r.at, r.piece, r.position, r.inside = 0, nil, 0, false
	}
	r.offset = offset
	return offset, nil
}

// Close does nothing: a result holds only memory.
func (r *result) Close() error { return nil }

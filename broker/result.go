package broker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// The bytes of a result that is not the output lie in pieces: the last one beside
// the job's last record, the others in the archive from the beginning, under names
// with the attempt's lease. So they are written once, and a piece of an attempt that
// came to nothing is never seen, because nothing says that it is there. They expire
// by themselves, whatever becomes of the process:
//
//	<crc32c of name and piece, 4 bytes><piece>

// piecesOutlive is how much longer pieces are kept than a job that ends at the last
// moment: a store may not answer for a while when the end is to be stored.
const piecesOutlive = time.Hour

// piecesName is what the names of the pieces of an attempt's result begin with.
func piecesName(id job.ID, lease uint64) string {
	return string(id) + "." + strconv.FormatUint(lease, 10)
}

func pieceName(id job.ID, lease uint64, n int64) string {
	return piecesName(id, lease) + "." + strconv.FormatInt(n, 10)
}

func pieceSum(name string, piece []byte) []byte {
	sum := crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, piece)
	return []byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}
}

// Attach stores a piece of the attempt's result; see worker.Sink.
func (t *Task) Attach(ctx context.Context, piece []byte) error {
	if len(piece) != job.PieceSize {
		return fmt.Errorf("a piece of %d bytes, but not the last", len(piece))
	}
	if !t.holds() {
		return job.ErrLeaseLost
	}
	size := int64(len(piece))
	if err := t.b.room.forWork(ctx, t.ctx, size); err != nil {
		return err
	}
	name := pieceName(t.Job.ID, t.lease, int64(len(t.pieces)))
	body := append(pieceSum(name, piece), piece...)
	place, err := t.putPiece(ctx, name, body)
	if err != nil {
		return err
	}
	t.b.room.used.Add(size)
	t.pieces = append(t.pieces, place)
	return nil
}

// putPiece stores a piece, again and again while the store does not answer: twice
// is once.
func (t *Task) putPiece(ctx context.Context, name string, body []byte) (uint64, error) {
	for {
		place, err := t.b.store.place(ctx, name, body, t.pieceTime())
		if !errors.Is(err, errSilent) {
			return place, err
		}
		select {
		case <-time.After(answerTime / 4):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
}

// holds reports whether the job is the task's, as far as is known here.
func (t *Task) holds() bool {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	return t.e.job.Status == job.StatusRunning && t.e.job.Lease == t.lease
}

// pieceTime is how long a piece of the result may be asked for.
func (t *Task) pieceTime() time.Duration {
	k := t.b.kind(t.Job.Kind)
	keep := job.DefaultRetention
	if q := t.Job.Request; q != nil && q.Retention > 0 {
		keep = q.Retention
	}
	return max(0, time.Until(t.timeoutAt)) + k.Grace + keep + piecesOutlive
}

// removePieces removes what the attempt has stored of a result that is none. What
// cannot be removed expires.
func (t *Task) removePieces() {
	ctx, cancel := context.WithTimeout(t.b.ctx, storeTime)
	defer cancel()
	if err := t.b.store.remove(ctx, piecesName(t.Job.ID, t.lease)); err != nil && t.b.ctx.Err() == nil {
		t.b.log.Warn("pieces of a result are left to expire", zap.String("job", string(t.Job.ID)), zap.Error(err))
	}
}

// Result opens the bytes of a succeeded job's result. They are read as they are
// asked for, a piece at a time.
func (b *Broker) Result(ctx context.Context, j job.Job) (io.ReadSeekCloser, error) {
	if j.Status != job.StatusSucceeded || j.Result == nil {
		return nil, job.ErrNotFound
	}
	r := &result{ctx: ctx, size: j.Result.Size}
	if j.Result.Output {
		r.from = &written{b: b, id: j.ID, lease: j.Result.Lease}
	} else {
		r.from = &pieces{b: b, id: j.ID, of: *j.Result, end: j.Cursor}
	}
	return r, nil
}

// source has the bytes of a result. at returns some of them, and the offset of the
// first: those at offset are among them, or come later.
type source interface {
	at(ctx context.Context, offset int64) (piece []byte, begin int64, err error)
}

// result reads from a source.
type result struct {
	ctx  context.Context
	from source
	size int64

	offset int64  // of the next byte that Read returns
	piece  []byte // what the source gave last
	begin  int64  // offset of piece in the result
}

func (r *result) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	for r.offset < r.begin || r.begin+int64(len(r.piece)) <= r.offset {
		piece, begin, err := r.from.at(r.ctx, r.offset)
		if err == nil && len(piece) == 0 {
			err = unavailable(fmt.Errorf("%w: its result ends at byte %d of %d", errDamaged, begin, r.size))
		}
		if err != nil {
			return 0, err
		}
		r.piece, r.begin = piece, begin
	}
	n := copy(p, r.piece[r.offset-r.begin:])
	r.offset += int64(n)
	return n, nil
}

// Seek sets the offset of the next Read.
func (r *result) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start of the result")
	}
	r.offset = offset
	return offset, nil
}

// Close does nothing: a result holds only memory.
func (r *result) Close() error { return nil }

// pieces is the source of a result that lies in pieces.
type pieces struct {
	b   *Broker
	id  job.ID
	of  job.Result
	end job.Cursor // of the record that has the last piece
}

func (s *pieces) at(ctx context.Context, offset int64) ([]byte, int64, error) {
	n := offset / job.PieceSize
	if n < (s.of.Size-1)/job.PieceSize {
		piece, err := s.b.piece(ctx, pieceName(s.id, s.of.Lease, n), s.of.Pieces, n)
		return piece, n * job.PieceSize, err
	}
	var last []byte
	err := s.b.each(ctx, s.id, s.end.Position-1, 1, func(_ uint64, m *frame) bool {
		last = m.Attachment
		return false
	})
	return last, n * job.PieceSize, err
}

// piece reads the n-th of the pieces that were stored at places, which has the name.
func (b *Broker) piece(ctx context.Context, name string, places []uint64, n int64) ([]byte, error) {
	body, err := []byte(nil), errNone
	if n < int64(len(places)) {
		body, err = b.store.placed(ctx, name, places[n])
	}
	if errors.Is(err, errNone) { // a repeated write came late and took its place
		body, err = b.store.archived(ctx, name)
	}
	switch {
	case errors.Is(err, errNone):
		return nil, unavailable(errMissing)
	case err != nil:
		return nil, err
	}
	return pieceIn(name, body)
}

// pieceIn returns the piece that was stored as body under name.
func pieceIn(name string, body []byte) ([]byte, error) {
	if len(body) < 4 || string(body[:4]) != string(pieceSum(name, body[4:])) {
		return nil, unavailable(errDamaged)
	}
	return body[4:], nil
}

// written is the source of a result that is what the attempt has written. It walks
// over the job's messages; to go back it begins again.
type written struct {
	b     *Broker
	id    job.ID
	lease uint64

	position uint64 // of the last message that was read
	inside   bool   // the walk is between the attempt's job.running and its end
	offset   int64  // of what comes next
}

// readAhead is how many bytes of a result are taken out of the log at once.
const readAhead = 1 << 20

func (s *written) at(ctx context.Context, offset int64) ([]byte, int64, error) {
	if offset < s.offset {
		s.position, s.inside, s.offset = 0, false, 0
	}
	begin := s.offset
	var next []byte
	var bad error
	err := s.b.each(ctx, s.id, s.position, readAhead, func(position uint64, m *frame) bool {
		s.position = position
		next, bad = s.take(next, m)
		return bad == nil && len(next) < readAhead
	})
	s.offset += int64(len(next))
	return next, begin, errors.Join(err, bad)
}

// take appends to b what m has of the result.
func (s *written) take(b []byte, m *frame) ([]byte, error) {
	for i := range m.Records {
		rec := &m.Records[i]
		if rec.Type == job.Running {
			s.inside = rec.Seq == s.lease
		}
		if rec.Type != job.Output || !s.inside {
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

package broker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// An input that is too large to lie with its job's first record is stored before it, as
// pieces in the archive under a name of its own, each as a piece of a result is:
//
//	pieces, as they come in ──▶ job.queued, which names them ──▶ the attempts read them
//
// They have no time to live, as nobody knows when the job will be over. Whoever ends the
// last use of them removes them: a submit that came to nothing, the job's expiry, its
// erasure. What a killed process leaves behind is removed by the next one: it finds
// pieces that no job names.

// uploadName is what the names of an upload's pieces begin with.
func uploadName(id string) string { return id + ".in" }

func uploadPiece(id string, n int64) string { return uploadName(id) + "." + strconv.FormatInt(n, 10) }

// uploadPieces is the pattern of the names of all uploads' pieces.
const uploadPieces = "*.in.*"

// Upload stores what r has, up to its end, as the input of a job of the kind that is about to
// be submitted: the Submit that gets it keeps it, or removes it. Nobody sees it before. Its
// errors are those of the store, of a queue that is full already, and of r.
func (b *Broker) Upload(ctx context.Context, kind string, r io.Reader) (*job.Upload, error) {
	if err := b.admit(&job.Request{Kind: kind}, 0); err != nil {
		return nil, err // before all of it has come
	}
	b.queue.Dismiss(kind)
	u := &job.Upload{ID: rand.Text()}
	err := b.upload(ctx, u, r)
	if err != nil {
		b.discardTwice(u)
		return nil, err
	}
	return u, nil
}

// UploadOnce is Upload for a request with an idempotency key. If the job of the key is there,
// nothing is stored, and there need be no room: what comes back says what r had, for the
// SubmitOnce with that key to compare.
func (b *Broker) UploadOnce(ctx context.Context, owner, key, kind string, r io.Reader) (*job.Upload, error) {
	known, err := b.knows(ctx, keyName(owner, key))
	switch {
	case err != nil:
		return nil, err
	case !known:
		return b.Upload(ctx, kind, r)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return nil, err
	}
	return &job.Upload{Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// lateTime is how long a piece may be on its way to the store after nobody waits for it any
// more.
const lateTime = time.Minute

// discardTwice is Discard for an upload of which a piece may still be on its way.
func (b *Broker) discardTwice(u *job.Upload) {
	b.Discard(u)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discard(uploadName(u.ID), time.Now().Add(lateTime))
}

func (b *Broker) upload(ctx context.Context, u *job.Upload, r io.Reader) error {
	sum, piece := sha256.New(), make([]byte, job.PieceSize)
	for n := int64(0); ; n++ {
		size, err := fillFrom(r, piece)
		if err != nil && err != io.EOF {
			return err
		}
		if size > 0 {
			_, _ = sum.Write(piece[:size])
			place, err := b.putUpload(ctx, uploadPiece(u.ID, n), piece[:size])
			if err != nil {
				return err
			}
			if n < maxPlaces {
				u.Pieces = append(u.Pieces, place)
			}
			u.Size += int64(size)
		}
		if err == io.EOF {
			u.SHA256 = hex.EncodeToString(sum.Sum(nil))
			return b.store.sync(ctx)
		}
	}
}

// fillFrom reads into p until it is full, or r fails. Unlike io.ReadFull it leaves the error as
// it is: that r was cut is not that it has ended.
func fillFrom(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = r.Read(p[n:])
		n += more
	}
	return n, err
}

// maxPlaces is of how many pieces the job says where they are: of 8 GiB. Those behind are
// found by their names, which takes longer.
const maxPlaces = 16 << 10

func (b *Broker) putUpload(ctx context.Context, name string, piece []byte) (place uint64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	switch {
	case b.isClosing():
		return 0, job.ErrDraining
	case b.store.full() || !b.room.has(int64(len(piece))+lastRecords, submitShare):
		return 0, errFull()
	}
	place, err = b.store.place(ctx, name, append(pieceSum(name, piece), piece...), 0)
	if err == nil {
		b.room.used.Add(int64(len(piece)))
	}
	return place, err
}

// OpenUpload opens an upload to be read, a piece at a time, as it is asked for.
func (b *Broker) OpenUpload(ctx context.Context, u *job.Upload) io.ReadSeekCloser {
	return &result{ctx: ctx, size: u.Size, from: &uploaded{b: b, upload: *u}}
}

// uploaded is the source of an upload.
type uploaded struct {
	b      *Broker
	upload job.Upload
}

func (s *uploaded) at(ctx context.Context, offset int64) ([]byte, int64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	n := offset / job.PieceSize
	piece, err := s.b.piece(ctx, uploadPiece(s.upload.ID, n), s.upload.Pieces, n)
	return piece, n * job.PieceSize, err
}

// Discard removes an upload that no job has; nil is none. It is done soon, not at once.
func (b *Broker) Discard(u *job.Upload) {
	if u == nil || u.ID == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discard(uploadName(u.ID), time.Time{})
}

// sweepUploads has the uploads removed that are of no job. After damage nothing is swept:
// the job may be what is damaged.
func (b *Broker) sweepUploads(ctx context.Context) error {
	if b.damage > 0 {
		return nil
	}
	named := map[string]bool{}
	for _, l := range b.litter { // of the jobs that are over
		id, _, _ := strings.Cut(l.name, ".")
		named[id] = true
	}
	for _, e := range b.jobs {
		if u := e.job.Upload; u != nil {
			named[u.ID] = true
		}
	}
	names, err := b.store.names(ctx, uploadPieces)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, _, _ := strings.Cut(name, ".")
		if !named[id] {
			named[id] = true // all of it at once
			b.discard(uploadName(id), time.Time{})
		}
	}
	return nil
}

func (b *Broker) removeUpload(ctx context.Context, id string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return b.store.remove(ctx, uploadName(id))
}

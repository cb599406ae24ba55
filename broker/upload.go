package broker

import (
	"container/heap"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

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
		b.Discard(u)
		return nil, err
	}
	return u, nil
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
			if err := b.putUpload(ctx, uploadPiece(u.ID, n), piece[:size]); err != nil {
				return err
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

func (b *Broker) putUpload(ctx context.Context, name string, piece []byte) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	switch {
	case b.isClosing():
		return job.ErrDraining
	case b.store.full() || !b.room.has(int64(len(piece))+lastRecords, submitShare):
		return errFull()
	}
	err := b.store.put(ctx, name, append(pieceSum(name, piece), piece...), 0)
	if err == nil {
		b.room.used.Add(int64(len(piece)))
	}
	return err
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
	name := uploadPiece(s.upload.ID, n)
	body, err := s.b.store.archived(ctx, name)
	if err == nil {
		body, err = pieceIn(name, body)
	}
	if errors.Is(err, errNone) {
		err = unavailable(errMissing)
	}
	return body, n * job.PieceSize, err
}

// Discard removes an upload that no job has; nil is none. It is done soon, not at once.
func (b *Broker) Discard(u *job.Upload) {
	if u == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discard(u.ID, time.Time{})
}

// discard has an upload removed when its time has come. b.mu is held, or nobody else is
// there yet.
func (b *Broker) discard(id string, at time.Time) {
	heap.Push(&b.uploads, leaving{id, at})
}

// leaving is an upload that is to be removed.
type leaving struct {
	id string
	at time.Time
}

// uploads are those that are to be removed, the next one first.
type uploads []leaving

func (l uploads) Len() int           { return len(l) }
func (l uploads) Less(i, j int) bool { return l[i].at.Before(l[j].at) }
func (l uploads) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *uploads) Push(x any)        { *l = append(*l, x.(leaving)) }
func (l *uploads) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}

// maxRemoved is how many uploads are removed in a tick: each may be thousands of messages,
// while which the store answers nobody else.
const maxRemoved = 16

// removeUploads removes the uploads whose time has come.
func (b *Broker) removeUploads() {
	for range maxRemoved {
		l, ok := b.nextUpload(time.Now())
		if !ok {
			return
		}
		if err := b.removeUpload(b.ctx, l.id); err != nil {
			if b.ctx.Err() == nil {
				b.log.Warn("an input is not removed yet", zap.String("upload", l.id), zap.Error(err))
			}
			b.mu.Lock()
			heap.Push(&b.uploads, l)
			b.mu.Unlock()
			return
		}
	}
}

func (b *Broker) nextUpload(now time.Time) (l leaving, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.uploads) == 0 || b.uploads[0].at.After(now) {
		return l, false
	}
	return heap.Pop(&b.uploads).(leaving), true
}

func (b *Broker) removeUpload(ctx context.Context, id string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	return b.store.remove(ctx, uploadName(id))
}

// sweepUploads has the uploads removed that are of no job. After damage nothing is swept:
// the job may be what is damaged.
func (b *Broker) sweepUploads(ctx context.Context) error {
	if b.damage > 0 {
		return nil
	}
	named := map[string]bool{}
	for _, l := range b.uploads {
		named[l.id] = true
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
			b.discard(id, time.Time{})
		}
	}
	return nil
}

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millstream/millstream/pkg/job"
)

// image is a stream as the server will see it once its blocks are mended.
type image struct {
	name   string
	dir    string // of the stream
	single bool   // it keeps one message of a subject

	blocks  []int
	size    int64
	deleted map[uint64]bool   // by tombstones
	latest  map[string]uint64 // of each subject, if that is all that is kept
	expiry  map[uint64]int64  // when what expires, as the server noted it; nil: it did not
	known   uint64            // so far it noted it

	messages    int    // that are kept
	first, last uint64 // of them, and of the last one that ever was
	noted       uint64 // the last one, in the server's index
	cut         bool   // its beginning is gone
}

// streamsIn is where the embedded server keeps its streams.
func streamsIn(dir string) string { return filepath.Join(dir, "jetstream", "$G", "streams") }

func newImage(dir, stream string, single bool) *image {
	return &image{name: stream, dir: filepath.Join(streamsIn(dir), stream), single: single, deleted: map[uint64]bool{}, latest: map[string]uint64{}}
}

func (im *image) open() (err error) {
	im.blocks, im.size, err = blocksOf(im.msgs())
	return err
}

// msgs is the directory of the blocks. When all messages of a stream are purged, the server
// makes a new one beside it, and puts that in its place; it may have been killed between.
func (im *image) msgs() string {
	next := filepath.Join(im.dir, "__new_msgs__")
	if blocks, _, err := blocksOf(next); err == nil && len(blocks) > 0 {
		return next
	}
	return filepath.Join(im.dir, "msgs")
}

// holes returns how many messages are missing between those that are kept: of a log,
// which is purged at its front only.
func (im *image) holes() int {
	if im.messages == 0 {
		return 0
	}
	return int(im.last+1-im.first) - im.messages
}

// keeps reports whether the message in r is one that the stream keeps.
func (im *image) keeps(b *block, r record) bool {
	if r.sequence&(erasedRecord|tombstone) != 0 || im.deleted[r.number()] {
		return false
	}
	return !im.single || im.latest[string(b.subject(r))] == r.number()
}

// note takes note of what r says about which messages are kept.
func (im *image) note(b *block, r record) {
	im.last = max(im.last, r.number())
	switch {
	case !r.counts():
		im.deleted[r.number()] = true
	case im.single && r.sequence&erasedRecord == 0:
		im.latest[string(b.subject(r))] = r.number()
	}
}

// records calls each with the records of a mended block, but for those that the server
// does not count as their sequence does not grow.
func (b *block) records(each func(record)) {
	last := uint64(0)
	for at := 0; at < len(b.data); {
		r, sane := b.at(at)
		if !sane {
			return // a torn end
		}
		at = r.end
		if r.counts() {
			if r.number() <= last {
				continue
			}
			last = r.number()
		}
		each(r)
	}
}

// eachBlock calls do with the blocks of a stream, mended, and what was wrong.
func (v *verifier) eachBlock(ctx context.Context, im *image, do func(n int, b *block, found []finding, err error)) error {
	var last uint64
	for i, n := range im.blocks {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		tail := i+1 == len(im.blocks)
		data, err := os.ReadFile(filepath.Join(im.msgs(), strconv.Itoa(n)+".blk"))
		size, b := int64(len(data)), newBlock(im.name, n, data)
		var found []finding
		found, last = b.mend(last, tail)
		if size == 0 && err == nil && !tail {
			found = []finding{{what: "empty"}}
		}
		do(n, b, found, err)
		v.done += size
		v.progress(v.done, v.total)
	}
	return nil
}

// survey finds out which messages of a stream are kept, and looks at the files beside
// its blocks.
func (v *verifier) survey(ctx context.Context, im *image) error {
	v.Streams++
	err := v.eachBlock(ctx, im, func(_ int, b *block, _ []finding, _ error) {
		b.records(func(r record) { im.note(b, r) })
	})
	if err != nil {
		return err
	}
	v.checkMeta(im)
	v.checkIndex(im)
	im.readExpiry()
	return nil
}

// located is a message that a stream keeps, and where it lies.
type located struct {
	stored
	stream        string
	block, offset int
	size          int
	then          string // what follows from what is wrong with it
	damaged       bool   // what that is will be told once all is read
}

func (m *located) finding(what string) Finding {
	then := m.then
	if then == "" {
		then = jobUnavailable
	}
	return Finding{
		What: what, Then: then, Stream: m.stream, Block: m.block, Offset: m.offset, Bytes: m.size,
		Position: m.position, Subject: m.subject, Job: jobOf(m.subject),
	}
}

// walk has each message that a stream keeps checked, and reports what is wrong.
func (v *verifier) walk(ctx context.Context, im *image, check func(*located) string) error {
	im.first = im.last + 1
	return v.eachBlock(ctx, im, func(n int, b *block, found []finding, err error) {
		if err != nil {
			v.report(Finding{What: fmt.Sprintf("the block cannot be read: %v", err), Then: noStart, Stream: im.name, Block: n})
		}
		w := blockWalk{v: v, im: im, n: n, b: b, found: found}
		b.records(func(r record) { w.record(r, check) })
		w.upTo(len(b.data) + 1)
	})
}

// blockWalk is the walk over one block.
type blockWalk struct {
	v     *verifier
	im    *image
	n     int
	b     *block
	found []finding // in it, that are not told yet
	gone  int       // bytes that were cut out before
}

// record has the message in r checked, if it is kept, and tells what is wrong with r.
func (w *blockWalk) record(r record, check func(*located) string) {
	w.upTo(r.begin)
	m, what := w.message(r), ""
	if m != nil {
		w.im.messages++
		w.v.Messages++
		w.im.first = min(w.im.first, r.number())
		what = check(m)
	}
	var f *finding
	if len(w.found) > 0 && w.found[0].at == r.begin {
		f, w.found = &w.found[0], w.found[1:]
	}
	switch {
	case what != "":
		w.v.report(m.finding(what))
	case f != nil:
		w.tell(*f, m, r.number())
	}
}

// message returns the message in r; nil: it is not kept.
func (w *blockWalk) message(r record) *located {
	if !w.im.keeps(w.b, r) {
		return nil
	}
	headers, body := w.b.parts(r)
	m := &located{
		stored: stored{string(w.b.subject(r)), r.number(), body},
		stream: w.im.name, block: w.n, offset: r.begin + w.gone, size: r.end - r.begin,
	}
	end := expires(headers, r.time)
	if end != 0 && end <= w.v.now.UnixNano() {
		return nil
	}
	if !w.im.foresees(r.number(), end) {
		f := m.finding("the server's list of what expires is wrong about it")
		f.Then = "it may be deleted too early"
		w.v.report(f)
	}
	return m
}

// expires returns when a message of these headers, stored at a time, does; 0: never.
func expires(headers []byte, at int64) int64 {
	if len(headers) == 0 {
		return 0
	}
	h, err := nats.DecodeHeadersMsg(headers)
	if err != nil {
		return 0
	}
	ttl, err := time.ParseDuration(h.Get(jetstream.MsgTTLHeader))
	if err != nil {
		return 0
	}
	return at + int64(ttl.Truncate(time.Second))
}

// upTo tells the findings before at that are about no record.
func (w *blockWalk) upTo(at int) {
	for len(w.found) > 0 && w.found[0].at < at {
		f := w.found[0]
		w.found = w.found[1:]
		w.tell(f, nil, 0)
		if f.size < smallest {
			w.gone += f.size
		}
	}
}

// tell reports a record that does not fit, and what becomes of its message m; nil: it is
// not kept.
func (w *blockWalk) tell(f finding, m *located, position uint64) {
	t := Finding{Stream: w.im.name, Block: w.n, Offset: f.at + w.gone, Bytes: f.size, Position: position, Subject: f.subject, Job: jobOf(f.subject)}
	t.What = "the record does not fit its seal"
	switch {
	case f.what == "empty":
		t.What, t.Then = "the block is empty", "what was in it is lost"
	case f.what == erased && f.size < smallest:
		t.What, t.Then = "bytes that are no record", "they are cut out: "+nothingLost
	case f.what == repaired:
		t.What, t.Then = "a size in the head of the record is wrong", "it is put right: "+nothingLost
	case f.what == erased && !w.im.deleted[position] && w.im.latest[f.subject] <= position:
		t.What, t.Then = "the record cannot be read", messageLost
	case m == nil:
		t.Then = "its message is not kept any more: " + nothingLost
	case m.damaged:
		t.Then = "it is sealed anew as it is, for its own checksum to tell"
	default:
		t.Then = "it is sealed anew, its message is as it was: " + nothingLost
	}
	w.v.report(t)
}

// checkMeta looks at what the server noted of the stream itself.
func (v *verifier) checkMeta(im *image) {
	text, err := os.ReadFile(filepath.Join(im.dir, "meta.inf"))
	sum, err2 := os.ReadFile(filepath.Join(im.dir, "meta.sum"))
	if errors.Join(err, err2) == nil && hex.EncodeToString(im.hash(text)) == string(sum) {
		return
	}
	v.report(Finding{What: "the description of the stream (meta.inf, meta.sum) is damaged or gone", Then: "the server makes a new one: " + nothingLost, Stream: im.name})
}

// hash is that of the server's files of the stream beside its blocks.
func (im *image) hash(data []byte) []byte {
	key := sha256.Sum256([]byte(im.name))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		panic(err) // a key of another length
	}
	_, _ = hash.Write(data)
	return hash.Sum(nil)
}

// checkIndex looks at the server's index of the stream. One that is older than the blocks is
// none any more; one that knows of more says that they lost their end.
func (v *verifier) checkIndex(im *image) {
	data, err := os.ReadFile(filepath.Join(im.msgs(), "index.db"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	last, ok := im.indexed(data)
	if err != nil || !ok {
		v.report(Finding{What: "the index of the stream (index.db) is damaged", Then: "the blocks are read in its place: " + nothingLost, Stream: im.name})
		return
	}
	im.noted = last
}

// indexed returns the last position that an index knows.
func (im *image) indexed(data []byte) (last uint64, ok bool) {
	const seal = 8
	if len(data) < seal+2 || !slices.Equal(im.hash(data[:len(data)-seal]), data[len(data)-seal:]) {
		return 0, false
	}
	fields := numbers{rest: data[2:]} // behind magic and version
	fields.next()                     // messages
	fields.next()                     // bytes
	fields.next()                     // first
	fields.next()                     // its time
	last = fields.next()
	return last, fields.rest != nil
}

// readExpiry reads the server's list of what expires, which has no checksum and is believed:
//
//	1 <entries, 8 bytes><position it reaches, 8 bytes> (<time, varint><position, uvarint>) …
func (im *image) readExpiry() {
	data, err := os.ReadFile(filepath.Join(im.msgs(), "thw.db"))
	if err != nil || len(data) < 17 || data[0] != 1 {
		return // the server makes it anew
	}
	entries, list := binary.LittleEndian.Uint64(data[1:]), map[uint64]int64{}
	fields := numbers{data[17:]}
	for range entries {
		at := fields.next()
		list[fields.next()] = int64(at>>1) ^ -int64(at&1) // as a varint is encoded
		if fields.rest == nil {
			return
		}
	}
	im.expiry, im.known = list, binary.LittleEndian.Uint64(data[9:])
}

// foresees reports whether the list has when the message at position expires, or is
// older than it.
func (im *image) foresees(position uint64, end int64) bool {
	return im.expiry == nil || end == 0 || position >= im.known || im.expiry[position] == end
}

// numbers reads uvarints; rest is nil once there was none.
type numbers struct{ rest []byte }

func (f *numbers) next() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 {
		f.rest = nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

// jobOf returns the job that a subject is of; none: "".
func jobOf(subject string) job.ID {
	if _, id, ok := parseSubject(subject); ok {
		return id
	}
	if of, ok := strings.CutPrefix(subject, hooksPrefix); ok {
		_, subject, _ = strings.Cut(of, ".")
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(subject, donePrefix), ".")
	if !job.ValidID(name) {
		return ""
	}
	return job.ID(name)
}

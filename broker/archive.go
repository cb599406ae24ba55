package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// A finished job is packed into DONE: a head, with the job as it stands and, if
// they are few, all its messages as they were stored; of a large job the messages
// lie in parts, stored before the head and kept longer, so that a head without its
// parts is never seen. Only then is JOBS purged behind it. Killed between any two steps, the next
// start finds the job in JOBS and does them again.
//
//	ms1d <crc32c> <len of job>\n
//	<archive as JSON>
//	<messages, zstd>

// archive is the head of a finished job.
type archive struct {
	Job   job.Job `json:"job"`
	Parts []part  `json:"parts,omitempty"` // empty: the messages are in the head
	pack  []byte  // zstd
}

// part is a message of DONE with some of a large job's messages.
type part struct {
	First    uint64 `json:"first"`    // seq of its first record
	Position uint64 `json:"position"` // of its first message
}

// partsOutlive is how much longer the parts of a job are kept than its head.
const partsOutlive = time.Minute

// partSize is how many bytes of messages go into one part: what a reader of one
// event has to unpack.
const partSize = 512 << 10

var (
	packer   = must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)))
	unpacker = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(64<<20)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // options that are constants
	}
	return v
}

const archiveMagic = "ms1d "

func (a *archive) encode() []byte {
	head := mustJSON(a)
	b := append([]byte(archiveMagic), "00000000 "...)
	b = strconv.AppendInt(b, int64(len(head)), 10)
	b = append(b, '\n')
	b = append(b, head...)
	b = append(b, a.pack...)
	copy(b[len(archiveMagic):], fmt.Sprintf("%08x", archiveSum(string(a.Job.ID), b)))
	return b
}

func archiveSum(name string, b []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, b[len(archiveMagic)+8:])
}

func decodeArchive(name string, b []byte) (*archive, error) {
	line, rest, ok := bytes.Cut(b, []byte{'\n'})
	f := bytes.Fields(line)
	if !ok || len(f) != 3 || !bytes.HasPrefix(line, []byte(archiveMagic)) || string(f[1]) != fmt.Sprintf("%08x", archiveSum(name, b)) {
		return nil, errDamaged
	}
	n, err := strconv.Atoi(string(f[2]))
	if err != nil || n < 0 || n > len(rest) {
		return nil, errDamaged
	}
	a := &archive{pack: rest[n:]}
	if err := json.Unmarshal(rest[:n], a); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return a, nil
}

// pack returns messages as the body of a part.
func pack(messages []stored) []byte {
	var raw []byte
	for _, m := range messages {
		raw = binary.AppendUvarint(raw, m.position)
		raw = binary.AppendUvarint(raw, uint64(len(m.data)))
		raw = append(raw, m.data...)
	}
	return packer.EncodeAll(raw, nil)
}

func unpack(subject string, b []byte) (messages []stored, err error) {
	raw, err := unpacker.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	for len(raw) > 0 {
		position, n := binary.Uvarint(raw)
		size, k := binary.Uvarint(raw[max(n, 0):])
		if n <= 0 || k <= 0 || size > uint64(len(raw)-n-k) {
			return nil, errDamaged
		}
		raw = raw[n+k:]
		messages = append(messages, stored{subject, position, raw[:size:size]})
		raw = raw[size:]
	}
	return messages, nil
}

// finished puts a job that is over in line for the archive. b.mu is held, or
// nobody else is there yet.
func (b *Broker) finished(e *entry) {
	b.over = append(b.over, e)
	select {
	case b.overCh <- struct{}{}:
	default:
	}
}

// purgeTime is how often JOBS is purged behind what is archived: in big steps it
// costs little, and the log stays a matter of seconds.
const purgeTime = time.Second

// archiveAll archives what is over, until the broker ends.
func (b *Broker) archiveAll() {
	t := time.NewTicker(purgeTime)
	defer t.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.overCh:
			b.archiveOver()
		case <-t.C:
			b.purgeBehind()
		}
	}
}

// archiveOver archives all that are in line. One that fails stays in line, and
// holds up no other: the next tick of the purge brings it back.
func (b *Broker) archiveOver() {
	b.mu.Lock()
	over := b.over
	b.over = nil
	b.mu.Unlock()
	var left []*entry
	for _, e := range over {
		err := b.archive(e)
		if err == nil {
			continue
		}
		left = append(left, e)
		if b.ctx.Err() == nil {
			b.log.Error("job not archived", zap.String("job", string(e.job.ID)), zap.Error(err))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = append(b.over, left...)
}

// archive packs one job that is over into DONE and forgets it here.
func (b *Broker) archive(e *entry) error {
	if left := time.Until(e.job.ExpiresAt); left > 0 {
		if err := b.store1(e, left); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(e)
	return nil
}

// store1 writes the parts of a job and then its head.
func (b *Broker) store1(e *entry, ttl time.Duration) error {
	name := string(e.job.ID)
	a := archive{Job: e.job}
	var chunk []stored
	size, first := 0, uint64(0)
	cut := func() error {
		n := len(a.Parts)
		a.Parts = append(a.Parts, part{first, chunk[0].position})
		err := b.store.put(b.ctx, name+"."+strconv.Itoa(n), pack(chunk), ttl+partsOutlive)
		chunk, size = nil, 0
		return err
	}
	for _, k := range e.messages { // e is over: nobody changes them
		s, err := b.load1(b.ctx, e.subject, k)
		if err != nil {
			return err
		}
		m, err := decode(s.subject, s.data)
		if err != nil {
			return err // the original is all there is: it is not purged
		}
		if m.piece() && (e.job.Result == nil || m.Lease != e.job.Result.Lease) {
			continue // of an attempt that did not succeed
		}
		if size > 0 && size+len(s.data) > partSize {
			if err := cut(); err != nil {
				return err
			}
		}
		if size == 0 {
			first = k.first
		}
		chunk, size = append(chunk, s), size+len(s.data)
	}
	if len(a.Parts) == 0 {
		a.pack = pack(chunk)
	} else if err := cut(); err != nil {
		return err
	}
	return b.store.put(b.ctx, name, a.encode(), ttl)
}

// load1 returns a message of the log, from memory if it is held.
func (b *Broker) load1(ctx context.Context, subject string, k kept) (stored, error) {
	if k.data != nil {
		return stored{subject, k.position, k.data}, nil
	}
	s, err := b.store.get(ctx, k.position)
	if err == nil && s.subject != subject {
		err = errNone
	}
	return s, err
}

// purgeBehind purges JOBS below the oldest job that is not in DONE.
func (b *Broker) purgeBehind() {
	mark := b.mark()
	if mark <= b.purged.Load()+1 {
		return
	}
	if err := b.store.purge(b.ctx, mark); err != nil {
		if b.ctx.Err() == nil {
			b.log.Warn("log not purged", zap.Error(err))
		}
		return
	}
	b.purged.Store(mark - 1)
}

// mark returns the position below which nothing is needed any more, and puts what
// could not be archived in line again.
func (b *Broker) mark() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.over) > 0 {
		select {
		case b.overCh <- struct{}{}:
		default:
		}
	}
	mark := b.head + 1
	for _, e := range b.jobs {
		mark = min(mark, e.floor)
	}
	return mark
}

// Archived reports whether a job that is over has left the log for the archive.
func (b *Broker) Archived(id job.ID) bool {
	b.mu.Lock()
	e := b.jobs[id]
	b.mu.Unlock()
	if e != nil {
		return false
	}
	_, err := b.fetch(b.ctx, id)
	return err == nil
}

// Purged returns the position up to which the log was purged.
func (b *Broker) Purged() uint64 { return b.purged.Load() }

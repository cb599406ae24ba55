package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats.go"
)

// The embedded server keeps a stream in block files, record behind record:
//
//	<size of the record, 4 bytes; highest bit: it has headers><sequence, 8><time, 8><size of the subject, 2>
//	<subject>[<size of the headers, 4><headers>]<message><hash of all from the sequence on, but for sizes, 8>
//
// all little endian. When it has no index, as after kill -9, it reads them and cuts a
// block at the first record whose hash does not fit, without a word: one bit takes all
// that is behind it. So we look first. A record that does not fit is sealed anew as it
// is: what is wrong with it is told by our own checksum, of that one message, and what
// lies behind it stays. What is no record any more is erased, as the server erases.
const (
	recordHead   = 22
	recordSeal   = 8
	smallest     = recordHead + recordSeal
	largest      = 32 << 20
	withHeaders  = 1 << 31
	erasedRecord = 1 << 63 // of a sequence: the message was erased
	tombstone    = 1 << 62 // of a sequence: it was deleted, in another block
)

const settingsPrefix = "$KV." + settingsBucket + "."

// maxSubject is more than any subject of ours has.
const maxSubject = 200

// summed reports whether the messages of subject have a checksum of their own.
func summed(subject []byte) bool {
	for _, prefix := range []string{"jobs.", donePrefix, keysPrefix, hooksPrefix} {
		if rest, ok := bytes.CutPrefix(subject, []byte(prefix)); ok {
			return plain(rest)
		}
	}
	return false
}

// plain reports whether b has nothing but what names and ids of ours consist of.
func plain(b []byte) bool {
	for _, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxSubject
}

// block is what lies in a block file.
type block struct {
	data []byte
	hash *highwayhash.Digest64
	sum  [recordSeal]byte // what seal returned last
}

// newBlock takes data for the stream's n-th block: the server seeds the hash with both.
func newBlock(stream string, n int, data []byte) *block {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, n))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		panic(err) // a key of another length
	}
	return &block{data: data, hash: hash}
}

// record is where a record lies, and what is in its head.
type record struct {
	begin, end int
	headers    bool
	sequence   uint64
	time       int64
	subject    int // its size
}

// at returns the record that begins there; false: no record can.
func (b *block) at(begin int) (record, bool) {
	if len(b.data)-begin < smallest {
		return record{begin: begin}, false
	}
	le, head := binary.LittleEndian, b.data[begin:]
	size := le.Uint32(head)
	r := record{
		begin: begin, end: begin + int(size&^withHeaders), headers: size&withHeaders != 0,
		sequence: le.Uint64(head[4:]), time: int64(le.Uint64(head[12:])), subject: int(le.Uint16(head[20:])),
	}
	return r, b.sane(r)
}

func (b *block) sane(r record) bool {
	size := r.end - r.begin
	return size >= smallest && size <= largest && r.end <= len(b.data) && r.message() <= r.end-recordSeal
}

// message is where the headers or the message begin.
func (r record) message() int {
	n := r.begin + recordHead + r.subject
	if r.headers {
		n += 4
	}
	return n
}

// counts reports whether r has a message, or had.
func (r record) counts() bool { return r.sequence&tombstone == 0 }

func (r record) number() uint64 { return r.sequence &^ (erasedRecord | tombstone) }

func (b *block) seal(r record) []byte {
	b.hash.Reset()
	_, _ = b.hash.Write(b.data[r.begin+4 : r.begin+20])
	_, _ = b.hash.Write(b.data[r.begin+recordHead : r.begin+recordHead+r.subject])
	_, _ = b.hash.Write(b.data[r.message() : r.end-recordSeal])
	return b.hash.Sum(b.sum[:0])
}

// fits reports whether the record is as it was written. Its hash covers no sizes.
func (b *block) fits(r record) bool {
	if !bytes.Equal(b.seal(r), b.data[r.end-recordSeal:r.end]) {
		return false
	}
	if r.sequence&(erasedRecord|tombstone) != 0 {
		return true
	}
	subject := b.subject(r)
	if key, ok := bytes.CutPrefix(subject, []byte(settingsPrefix)); ok {
		return b.headed(r) && b.sealed(r, key)
	}
	return summed(subject) && b.headed(r)
}

// parts returns the headers and the message of r, which is headed.
func (b *block) parts(r record) (headers, body []byte) {
	begin := r.message()
	body = b.data[begin : r.end-recordSeal]
	if r.headers {
		n := binary.LittleEndian.Uint32(b.data[begin-4:])
		headers, body = body[:n], body[n:]
	}
	return headers, body
}

func (b *block) subject(r record) []byte {
	return b.data[r.begin+recordHead : r.begin+recordHead+r.subject]
}

// headed reports whether the headers of r, if it has any, end where it says that they do.
func (b *block) headed(r record) bool {
	if !r.headers {
		return true
	}
	rest := b.data[r.message() : r.end-recordSeal]
	n := int64(binary.LittleEndian.Uint32(b.data[r.message()-4:]))
	return n <= int64(len(rest)) && bytes.HasSuffix(rest[:n], endOfHeaders)
}

var endOfHeaders = []byte("\r\n\r\n")

// sealed reports whether r is a setting as it was set.
func (b *block) sealed(r record, key []byte) bool {
	_, body := b.parts(r)
	_, err := unseal(string(key), body)
	return err == nil
}

// readable reports whether r can be handed out as it is, for its own checksum to be
// found wrong.
func (b *block) readable(r record) bool {
	if r.sequence&(erasedRecord|tombstone) != 0 || !summed(b.subject(r)) || !b.headed(r) {
		return false
	}
	if !r.headers {
		return true
	}
	n := int(binary.LittleEndian.Uint32(b.data[r.message()-4:]))
	_, err := nats.DecodeHeadersMsg(b.data[r.message() : r.message()+n])
	return err == nil
}

// What was done about a damaged record.
const (
	repaired = "repaired"
	resealed = "kept as it is; if its message is damaged, that is told below"
	erased   = "lost"
)

// finding is damage in a block, and what was done about it.
type finding struct {
	what    string
	subject string // as far as it can be read
	at      int
	size    int
}

// mend makes a block of records that all fit. last is the sequence of the last message
// before the block, and tail says that it is the stream's last: what is torn at its
// end was never acknowledged, and is the server's to cut. It returns the sequence of
// the last message in it.
func (b *block) mend(last uint64, tail bool) (found []finding, _ uint64) {
	var before int64
	for at := 0; at < len(b.data); {
		r, sane := b.at(at)
		if !sane || !b.fits(r) {
			next, torn := b.extent(&r, sane, last)
			switch {
			case torn && tail:
				return found, last
			case r.end-at < smallest: // nothing fits there
				b.data = slices.Delete(b.data, at, r.end)
				found = append(found, finding{what: erased, at: at, size: r.end - at})
				continue
			}
			found = append(found, b.replace(&r, last, before, next))
		}
		if r.counts() {
			last, before = max(last, r.number()), max(before, r.time)
		}
		at = r.end
	}
	return found, last
}

// extent finds where r ends, which does not fit, and what comes next. It is torn if
// nothing does, and it is no whole record, or was not written whole.
func (b *block) extent(r *record, sane bool, last uint64) (next record, torn bool) {
	next, more := b.resync(*r, sane, last)
	switch {
	case more:
		r.end = next.begin
	case !sane:
		r.end = len(b.data)
		whole := *r
		torn = !b.repair(&whole)
	default:
		torn = b.unwritten(*r)
	}
	return next, torn
}

// sectorSize is the least that a disk writes.
const sectorSize = 512

// unwritten reports whether the end of r never came to the disk: after a loss of power a
// file may be as long as it was, and have zeros where it was not written yet.
func (b *block) unwritten(r record) bool {
	begin := max(r.begin, (r.end-1)/sectorSize*sectorSize)
	return len(bytes.Trim(b.data[begin:r.end], "\x00")) == 0
}

// resync finds what comes behind a record that does not fit; r is what stands there, if
// that is sane. If its size is what is damaged, r may end where a later record does: unless
// the numbers say that they are neighbours, nothing that fits may be in it.
func (b *block) resync(r record, sane bool, last uint64) (next record, more bool) {
	end, before := len(b.data), uint64(manyMessages)
	if sane && r.end < end {
		if next, more = b.at(r.end); more {
			neighbours := next.number() == r.number()+1
			if neighbours && (b.fits(next) || b.readable(next)) {
				return next, true
			}
			more = b.fits(next)
		}
		if more {
			end = r.end
			if next.counts() {
				before = next.number()
			}
		}
	}
	for at := r.begin + 1; at <= end-smallest; at++ {
		if in, ok := b.at(at); ok && in.number() < before && (in.number() > last || !in.counts()) && b.likely(in) && b.fits(in) {
			return in, true
		}
	}
	if !more {
		return record{}, false
	}
	return next, true
}

// manyMessages is more than any stream of ours will ever have had.
const manyMessages = 1 << 40

// likely reports whether r may be a record, by what costs little to look at: in binary
// inputs something that has the sizes of one begins at every second byte, and each would
// be hashed to its end.
func (b *block) likely(r record) bool {
	switch {
	case r.number() >= manyMessages:
		return false
	case r.sequence&(erasedRecord|tombstone) != 0:
		return r.subject == 0
	}
	return summed(b.subject(r)) || bytes.HasPrefix(b.subject(r), []byte(settingsPrefix))
}

// replace makes a record that fits of what lies in the place of r: the one that it was
// if only its size was wrong, else the same with a new seal, else an erased one.
func (b *block) replace(r *record, last uint64, before int64, next record) finding {
	f := finding{what: repaired, at: r.begin, size: r.end - r.begin}
	if b.sane(*r) {
		f.subject = string(b.subject(*r))
	}
	if b.repair(r) {
		return f
	}
	keep := b.sane(*r) && b.readable(*r)
	r.sequence, r.time = place(*r, last, before, next)
	f.what = resealed
	if !keep || !r.counts() {
		f.what = erased
		r.headers, r.subject = false, 0
		if r.counts() {
			r.sequence |= erasedRecord
		}
	}
	b.write(*r)
	copy(b.data[r.end-recordSeal:], b.seal(*r))
	return f
}

// repair corrects the sizes in r, which its hash does not cover, if that was all.
func (b *block) repair(r *record) bool {
	for range 2 {
		if b.sane(*r) {
			b.resize(*r)
			if b.fits(*r) {
				b.write(*r)
				return true
			}
		}
		r.headers = !r.headers
	}
	return false
}

// resize corrects the size of the headers of r.
func (b *block) resize(r record) {
	if i := bytes.Index(b.data[r.message():r.end-recordSeal], endOfHeaders); r.headers && !b.headed(r) && i >= 0 {
		binary.LittleEndian.PutUint32(b.data[r.message()-4:], uint32(i+len(endOfHeaders)))
	}
}

// place returns the sequence and the time that a record has between its neighbours; a
// tombstone of nothing if there is no room.
func place(r record, last uint64, before int64, next record) (uint64, int64) {
	limit := next.number()
	if !next.counts() || next.end == 0 {
		limit = 0 // not known
	}
	seq, known := r.number(), last > 0
	switch {
	case known && limit > 0 && last < seq && seq < limit, !known && limit == 0:
	case known && (limit == 0 || last+1 < limit):
		seq = last + 1
	case !known && limit > 1:
		seq = limit - 1
	default:
		return tombstone, before
	}
	at := max(r.time, before)
	if now := time.Now().UnixNano(); at > now {
		at = max(before, now)
	}
	return seq, at
}

// write writes the head of r.
func (b *block) write(r record) {
	le, head := binary.LittleEndian, b.data[r.begin:]
	size := uint32(r.end - r.begin)
	if r.headers {
		size |= withHeaders
	}
	le.PutUint32(head, size)
	le.PutUint64(head[4:], r.sequence)
	le.PutUint64(head[12:], uint64(r.time))
	le.PutUint16(head[20:], uint16(r.subject))
}

package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

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
//
// The same form has a part record: what a live job had to say so far, moved out
// of the way of the purge. See move.

// archive is the head of a finished job, or the part record of a live one.
type archive struct {
	Job   job.Job `json:"job"`
	Live  *live   `json:"live,omitempty"`  // of a part record
	Parts []part  `json:"parts,omitempty"` // empty: the messages are in the head
	pack  []byte  // zstd
}

// part is a message of DONE with some of a large job's messages.
type part struct {
	Position uint64 `json:"position"` // of its first message
}

// partsOutlive is how much longer the parts of a job are kept than its head.
const partsOutlive = time.Minute

// partSize is how many bytes of messages go into one part: what a reader of one
// event has to unpack.
const partSize = 128 << 10

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
	head := job.MustJSON(a)
	b := append([]byte(archiveMagic), "00000000 "...)
	b = strconv.AppendInt(b, int64(len(head)), 10)
	b = append(b, '\n')
	b = append(b, head...)
	b = append(b, a.pack...)
	sum := archiveSum(string(a.Job.ID), b)
	copy(b[len(archiveMagic):], sum[:])
	return b
}

func archiveSum(name string, b []byte) (text [8]byte) {
	sum := crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, b[len(archiveMagic)+len(text):])
	hex.Encode(text[:], binary.BigEndian.AppendUint32(make([]byte, 0, 4), sum))
	return text
}

func decodeArchive(name string, b []byte) (*archive, error) {
	head, pack, err := cutArchive(name, b)
	if err != nil {
		return nil, err
	}
	a := &archive{pack: pack}
	if err := json.Unmarshal(head, a); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return a, nil
}

// cutArchive returns the JSON and the messages of what is stored under name, or errDamaged.
func cutArchive(name string, b []byte) (head, pack []byte, err error) {
	line, rest, ok := bytes.Cut(b, []byte{'\n'})
	line, ours := bytes.CutPrefix(line, []byte(archiveMagic))
	text, size, _ := bytes.Cut(line, []byte{' '})
	if !ok || !ours || len(text) != 8 {
		return nil, nil, errDamaged
	}
	sum := archiveSum(name, b)
	n, err := strconv.Atoi(string(size))
	if string(text) != string(sum[:]) || err != nil || n < 0 || n > len(rest) {
		return nil, nil, errDamaged
	}
	return rest[:n], rest[n:], nil
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

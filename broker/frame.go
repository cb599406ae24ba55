package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"strconv"
	"strings"

	"github.com/millstream/millstream/pkg/job"
)

// frame is the message that one publish stores: consecutive records of a job, and bytes
// that lie beside them. On the wire it is
//
//	ms1 <crc32c> <first seq> <records> <epoch> <lease> <owner> <writer> <len of attachment>\n
//	<record>\n …
//	<attachment>
//
// The checksum covers the job's id and all that follows it, so a message that was
// damaged, or put under another job, is told from a good one. A store that loses
// a message in silence leaves a hole in seq.
type frame struct {
	ID         job.ID
	Kind       string
	Owner      string
	Epoch      uint64
	Lease      uint64       // whose last piece of a result the attachment is; 0: it is the request's input
	Writer     string       // names this one publish, so that its author knows it again
	First      uint64       // seq of the first record, or of the next if there is none
	Records    []job.Record //
	Attachment []byte
}

// ends reports whether the job is over with the message.
func (m *frame) ends() bool {
	return len(m.Records) > 0 && m.Records[len(m.Records)-1].Type.Terminal()
}

// moved reports whether the message is a part record: its attachment is an archive
// that has all before it.
func (m *frame) moved() bool { return len(m.Records) == 0 && m.Lease == 0 }

// errDamaged is the error of stored bytes that are not what was written.
var errDamaged = errors.New("stored message is damaged")

// toldDamage is errDamaged as somebody has told it before.
type toldDamage string

func (d toldDamage) Error() string     { return string(d) }
func (d toldDamage) Is(err error) bool { return err == errDamaged }

// damagedBy is errDamaged, and why.
func damagedBy(err error) error {
	if errors.Is(err, errDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", errDamaged, err)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const magic = "ms1 "

// encode returns the message as it is stored.
func (m *frame) encode() []byte {
	size := 128 + len(m.Attachment)
	for i := range m.Records {
		size += 256 + len(m.Records[i].Data)
	}
	b := make([]byte, 0, size)
	b = append(b, magic...)
	b = append(b, "00000000 "...)
	b = strconv.AppendUint(b, m.First, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(m.Records)), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, m.Epoch, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, m.Lease, 10)
	b = append(b, ' ')
	b = append(b, url.QueryEscape(m.Owner)...)
	b = append(b, ' ')
	b = append(b, m.Writer...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(len(m.Attachment)), 10)
	b = append(b, '\n')
	for i := range m.Records {
		b = m.Records[i].AppendLine(b, m.ID)
	}
	b = append(b, m.Attachment...)
	sum := checksum(m.ID, b)
	copy(b[len(magic):], sum[:])
	return b
}

// checksum covers the id of the job and what stands behind the checksum in b.
func checksum(id job.ID, b []byte) (text [8]byte) {
	sum := crc32.Checksum([]byte(id), castagnoli)
	sum = crc32.Update(sum, castagnoli, b[len(magic)+len(text):])
	hex.Encode(text[:], binary.BigEndian.AppendUint32(make([]byte, 0, 4), sum))
	return text
}

// decode reads a stored message of the job that subject names. The records and
// the attachment share memory with b.
func decode(subject string, b []byte) (*frame, error) {
	kind, id, err := intact(subject, b)
	if err != nil {
		return nil, err
	}
	head, rest, _ := bytes.Cut(b, []byte{'\n'})
	f := bytes.Split(head[len(magic):], []byte{' '})
	if len(f) != 8 {
		return nil, errDamaged
	}
	m := &frame{ID: id, Kind: kind, Writer: string(f[6])}
	var errs [6]error
	var records, epoch, attached uint64
	m.First, errs[0] = strconv.ParseUint(string(f[1]), 10, 64)
	records, errs[1] = strconv.ParseUint(string(f[2]), 10, 32)
	epoch, errs[2] = strconv.ParseUint(string(f[3]), 10, 64)
	m.Lease, errs[3] = strconv.ParseUint(string(f[4]), 10, 64)
	m.Owner, errs[4] = url.QueryUnescape(string(f[5]))
	attached, errs[5] = strconv.ParseUint(string(f[7]), 10, 32)
	if errors.Join(errs[:]...) != nil || attached > uint64(len(rest)) {
		return nil, errDamaged
	}
	m.Epoch = epoch
	cut := len(rest) - int(attached)
	m.Attachment = rest[cut:]
	return m, m.parseRecords(rest[:cut], int(records))
}

// intact returns errDamaged if b is not what was stored of the job that subject
// names.
func intact(subject string, b []byte) (kind string, id job.ID, err error) {
	const end = len(magic) + 8 // of the checksum
	kind, id, ok := parseSubject(subject)
	if !ok || len(b) <= end || string(b[:len(magic)]) != magic {
		return "", "", errDamaged
	}
	if sum := checksum(id, b); string(b[len(magic):end]) != string(sum[:]) {
		return "", "", errDamaged
	}
	return kind, id, nil
}

func (m *frame) parseRecords(lines []byte, n int) error {
	for range n {
		line, rest, ok := bytes.Cut(lines, []byte{'\n'})
		r, id, err := job.ParseLine(line)
		if !ok || err != nil || id != m.ID || r.Seq != m.First+uint64(len(m.Records)) {
			return errDamaged
		}
		m.Records = append(m.Records, r)
		lines = rest
	}
	if len(lines) > 0 {
		return errDamaged
	}
	return nil
}

// fold adds the message, stored at position, to the job; a hole is an error.
func (m *frame) fold(j *job.Job, position uint64) error {
	if m.First != j.Cursor.Seq+1 {
		return fmt.Errorf("%w: message begins at seq %d, expected %d", job.ErrFold, m.First, j.Cursor.Seq+1)
	}
	at := job.Place{Position: position, Epoch: m.Epoch}
	j.ID, j.Kind, j.Owner = m.ID, m.Kind, m.Owner
	for i := range m.Records {
		if err := j.Fold(&m.Records[i], at); err != nil {
			return err
		}
	}
	return nil
}

// events returns the message's records, stored at position, as readers see them.
func (m *frame) events(position uint64) []job.Event {
	at := job.Place{Position: position, Epoch: m.Epoch}
	events := make([]job.Event, len(m.Records))
	for i, r := range m.Records {
		r.Private = nil
		events[i] = job.Event{Record: r, Job: m.ID, Place: at}
	}
	return events
}

// subjectOf returns the subject that has all there is of a job.
func subjectOf(kind string, id job.ID) string { return "jobs." + kind + "." + string(id) }

// parseSubject reads a subject that subjectOf made.
func parseSubject(s string) (kind string, id job.ID, ok bool) {
	rest, ours := strings.CutPrefix(s, "jobs.")
	kind, text, found := strings.Cut(rest, ".")
	return kind, job.ID(text), ours && found && job.ValidKind(kind) && job.ValidID(text)
}

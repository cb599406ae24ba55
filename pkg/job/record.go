package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Record is one stored fact about a job: the event that readers see, and a
// private part that they do not.
type Record struct {
	Seq     uint64          // 1, 2, 3… within the job: a hole is a loss
	Type    Type            //
	Attempt int             // the attempt it belongs to, from 1
	Time    time.Time       // UTC, to the millisecond
	Data    json.RawMessage // one compact JSON value; see Data
	Private *Private        // nil for most
}

// Private is what the server keeps with a record for itself.
type Private struct {
	Request *Request `json:"request,omitempty"` // on the first job.queued: what is asked for
	Node    string   `json:"node,omitempty"`    // on job.running: the process whose heartbeat carries the lease
	Result  *Result  `json:"result,omitempty"`  // on job.succeeded: where the result's bytes are

	AtMostOnce bool `json:"at_most_once,omitempty"` // on job.running: if the process dies, the work must not be done again

	LeasedUntil time.Time `json:"leased_until,omitzero"` // on job.running of a pull worker: when the attempt times out
	Finish      uint64    `json:"finish,omitempty"`      // on the end of an attempt: the lease whose pull worker said so

	Erase bool `json:"erase,omitempty"` // on job.cancel_requested or job.canceled: the job is erased once it is over
}

// PieceSize is how the bytes of a large result are cut: all pieces but the last have
// this size, half of what a NATS server accepts by default.
const PieceSize = 512 << 10

// Result describes a job's result and says where the bytes are: those of the last
// piece are beside the job's last record, the others are stored by themselves.
type Result struct {
	Type      string   `json:"type"`                // media type
	Size      int64    `json:"size"`                // bytes
	SHA256    string   `json:"sha256"`              // of the bytes, in hex
	Lease     uint64   `json:"lease"`               // seq of the job.running that produced it
	Output    bool     `json:"output,omitempty"`    // the bytes are the attempt's job.output chunks, not pieces
	Pieces    []uint64 `json:"pieces,omitempty"`    // where the store has them
	Truncated bool     `json:"truncated,omitempty"` // the output passed the limit and was cut
	Answer    *Answer  `json:"answer,omitempty"`    // of a route: what the bytes are the body of
}

// MaxInline is the size up to which a JSON or text result stands in the job and
// its last event; a larger one is told by reference.
const MaxInline = 64 << 10

// ResultPath returns the path of the resource that has a job's result.
func ResultPath(id ID) string { return "/v1/jobs/" + string(id) + "/result" }

// Reference returns what stands in the job for a result that is not inline.
func (r *Result) Reference(id ID) json.RawMessage {
	return MustData(struct {
		Href      string `json:"href"`
		Size      int64  `json:"size"`
		Type      string `json:"type"`
		SHA256    string `json:"sha256"`
		Truncated bool   `json:"truncated,omitempty"`
		Status    int    `json:"status,omitempty"`
	}{ResultPath(id), r.Size, r.Type, r.SHA256, r.Truncated, r.status()})
}

// status is that of the answer of a route; 0 for any other kind.
func (r *Result) status() int {
	if r.Answer == nil {
		return 0
	}
	return r.Answer.Status
}

// Plain reports whether the bytes are what was asked for, as they are: an answer that says so
// with its status, in no encoding.
func (r *Result) Plain() bool {
	return r.Answer == nil || r.Answer.Status/100 == 2 && len(r.Answer.Header["Content-Encoding"]) == 0
}

// Data returns v as the data of a record: one line of valid UTF-8 JSON. A
// json.RawMessage is checked and compacted, nil is the empty object.
func Data(v any) (json.RawMessage, error) {
	raw, ok := v.(json.RawMessage)
	switch {
	case v == nil || ok && len(raw) == 0:
		return json.RawMessage("{}"), nil
	case !ok:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("event data: %w", err)
		}
		return b, nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, fmt.Errorf("event data: %w", err)
	}
	if !utf8.Valid(b.Bytes()) {
		return bytes.ToValidUTF8(b.Bytes(), []byte("\uFFFD")), nil
	}
	return b.Bytes(), nil
}

// MustData is Data for values of our own types, which always encode.
func MustData(v any) json.RawMessage {
	b, err := Data(v)
	if err != nil {
		panic(err)
	}
	return b
}

// appendFields appends the record's fields and the closing brace of the event
// object. Their order is part of the stored format: Parse relies on it.
func (r *Record) appendFields(b []byte, id ID) []byte {
	b = append(b, `"seq":`...)
	b = strconv.AppendUint(b, r.Seq, 10)
	b = append(b, `,"type":"`...)
	b = append(b, r.Type...)
	b = append(b, `","job":`...)
	b = appendText(b, string(id))
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(r.Attempt), 10)
	b = append(b, `,"time":"`...)
	b = appendTime(b, r.Time)
	b = append(b, `","data":`...)
	if len(r.Data) == 0 {
		b = append(b, "{}"...)
	}
	b = append(b, r.Data...)
	return append(b, '}')
}

// appendText appends a text that needs no escapes as JSON: null, if there is none.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// AppendLine appends the record as it is stored: the fields of the event object
// without its id, a tab and the private part if there is one, and a newline.
func (r *Record) AppendLine(b []byte, id ID) []byte {
	b = append(b, '{')
	b = r.appendFields(b, id)
	if r.Private != nil {
		p, err := json.Marshal(r.Private)
		if err != nil {
			panic(err) // strings, numbers and maps of strings always encode
		}
		b = append(b, '\t')
		b = append(b, p...)
	}
	return append(b, '\n')
}

// ErrRecord is the error of bytes that are not a stored record.
var ErrRecord = errors.New("not a record")

// ParseLine reads a line that AppendLine wrote, without its newline. The
// record's data shares memory with line.
func ParseLine(line []byte) (r Record, id ID, err error) {
	public, private, hasPrivate := bytes.Cut(line, []byte{'\t'}) // JSON has no raw tab in it
	p := parser{rest: public}
	p.expect(`{"seq":`)
	r.Seq = p.number()
	p.expect(`,"type":"`)
	r.Type = Type(p.until('"'))
	p.expect(`,"job":"`)
	id = ID(p.until('"'))
	p.expect(`,"attempt":`)
	r.Attempt = int(p.number())
	p.expect(`,"time":"`)
	r.Time, err = time.Parse(timeFormat, string(p.until('"')))
	p.expect(`,"data":`)
	if err != nil || p.bad || len(p.rest) < 2 || p.rest[len(p.rest)-1] != '}' {
		return Record{}, "", ErrRecord
	}
	r.Data = p.rest[: len(p.rest)-1 : len(p.rest)-1]
	if hasPrivate {
		r.Private = new(Private)
		if err := json.Unmarshal(private, r.Private); err != nil {
			return Record{}, "", fmt.Errorf("%w: private part: %w", ErrRecord, err)
		}
	}
	return r, id, nil
}

// parser walks along a text of known shape; bad is sticky.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) expect(s string) {
	if p.bad || len(p.rest) < len(s) || string(p.rest[:len(s)]) != s {
		p.bad = true
		return
	}
	p.rest = p.rest[len(s):]
}

func (p *parser) until(c byte) []byte {
	i := bytes.IndexByte(p.rest, c)
	if p.bad || i < 0 {
		p.bad = true
		return nil
	}
	s := p.rest[:i]
	p.rest = p.rest[i+1:]
	return s
}

func (p *parser) number() (n uint64) {
	i := 0
	for ; i < len(p.rest) && i < 20 && '0' <= p.rest[i] && p.rest[i] <= '9'; i++ {
		n = n*10 + uint64(p.rest[i]-'0')
	}
	p.bad = p.bad || i == 0
	p.rest = p.rest[i:]
	return n
}

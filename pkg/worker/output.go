package worker

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"time"
	"unicode/utf8"

	"github.com/millstream/millstream/pkg/job"
)

// hold is how long the beginning of a line waits for its end. A program that
// writes a line piece by piece does so in less; a person who waits for a prompt
// does not see it.
const hold = 50 * time.Millisecond

// write adds output. Whole lines go to the queue, the rest of a line waits.
func (o *outbox) write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for n := 0; n < len(p); {
		if err := o.room(); err != nil {
			return n, err
		}
		piece := p[n:min(len(p), n+o.chunk)]
		o.addOutput(o.afford(piece))
		n += len(piece)
	}
	return len(p), nil
}

// afford returns as much of p as the job's limit of bytes has room for. Once a
// piece was cut nothing follows: what is kept is the beginning of the output.
func (o *outbox) afford(p []byte) []byte {
	n := int64(len(p))
	if o.dropped > 0 {
		n = 0
	}
	keep := p[:max(0, min(n, o.left()))]
	if len(keep) < len(p) {
		keep = keep[:len(keep)-incomplete(keep)]
		o.dropped += int64(len(p) - len(keep))
		o.sayCut()
	}
	return keep
}

// written returns how many bytes of output there are. Where it was cut is its end for
// ever: whatever follows is behind it.
func (o *outbox) written() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dropped > 0 {
		return math.MaxInt64
	}
	return o.out.size
}

// left returns how many bytes of events the job may still say.
func (o *outbox) left() int64 { return o.lim.Bytes - o.bytes - int64(o.size) }

// refuses reports whether a log or an event of n bytes is more than the job may say.
// Behind the limit of events each takes more than its bytes, so that their number
// has an end. Output does not: it may be the result.
func (o *outbox) refuses(n int) bool {
	left := o.left() - int64(n)
	over := int64(max(0, o.events+len(o.queue)-o.lim.Events))
	switch {
	case left < 0:
		o.sayCut()
	case left < over*beyond:
		o.sayOnce(&o.many, "the job has far more events than it may have: further logs and events of its own are left out")
	default:
		return false
	}
	return true
}

// cutText is what is said where the output is cut.
const cutText = "the job's events have reached their limit of bytes: output is cut here, further output, logs and events are left out"

// sayCut says once that from here on something is missing.
func (o *outbox) sayCut() {
	o.sayOnce(&o.cut, cutText)
}

func (o *outbox) sayOnce(said *bool, text string) {
	if !*said {
		*said = true
		o.push(&item{typ: job.Log, stream: ownStream, text: []byte(text)})
	}
}

func (o *outbox) addOutput(p []byte) {
	if len(p) == 0 {
		return
	}
	o.out.add(p)
	if len(o.partial) == 0 {
		o.due = time.Now().Add(hold)
	}
	o.partial = append(o.partial, p...)
	o.size += len(p)
	if end := bytes.LastIndexByte(p, '\n') + 1; end > 0 {
		o.flushPartial(len(p) - end)
		o.due = time.Now().Add(hold)
	}
	if len(o.partial) >= o.chunk {
		o.flushPartial(incomplete(o.partial))
	}
	o.nudge()
}

// flushPartial moves the partial line to the queue, but for its last keep bytes.
func (o *outbox) flushPartial(keep int) {
	n := len(o.partial) - keep
	o.size -= n
	o.addText(o.partial[:n])
	o.partial = append(o.partial[:0], o.partial[n:]...)
}

// fit returns how much of text goes into a piece of at most room bytes: all, or
// whole lines, or if there is none whole runes.
func fit(text []byte, room int) int {
	if len(text) <= room {
		return len(text)
	}
	if n := bytes.LastIndexByte(text[:room], '\n') + 1; n > 0 {
		return n
	}
	return room - incomplete(text[:room])
}

// incomplete returns how many bytes at the end of p are the beginning of a rune.
func incomplete(p []byte) int {
	for n := 1; n <= min(len(p), utf8.UTFMax-1); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// meter lets progress through that rises, no more often than the rate.
type meter struct {
	every time.Duration
	last  float64         // the highest value so far
	due   time.Time       // not before then the next
	held  json.RawMessage // came too soon
}

func newMeter(rate float64) meter {
	return meter{every: time.Duration(float64(time.Second) / rate), last: math.Inf(-1)}
}

type progressData struct {
	Progress float64 `json:"progress"`
	Total    float64 `json:"total,omitzero"`
	Message  string  `json:"message,omitempty"`
}

func (o *outbox) progress(p progressData) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !(p.Progress >= o.meter.last) || math.IsInf(p.Progress, 0) || o.closed {
		return // it falls, or is no number
	}
	o.meter.last = p.Progress
	if !(p.Total > 0) || math.IsInf(p.Total, 0) {
		p.Total = 0
	}
	if o.left() < int64(len(p.Message)) {
		p.Message = ""
		o.sayCut()
	}
	o.meter.held = job.MustJSON(p)
	if time.Now().Before(o.meter.due) {
		o.nudge()
		return
	}
	o.flushProgress()
}

// flushProgress queues the progress that was held, in place of any that still
// waits there.
func (o *outbox) flushProgress() {
	if o.meter.held == nil {
		return
	}
	for i, it := range o.queue {
		if it.typ == job.Progress {
			o.size -= it.len()
			o.queue = append(o.queue[:i], o.queue[i+1:]...)
			break
		}
	}
	o.push(&item{typ: job.Progress, data: o.meter.held})
	o.meter.held = nil
	o.meter.due = time.Now().Add(o.meter.every)
}

type logData struct {
	Stream string `json:"stream"`
	Line   string `json:"line"`
}

type outputData struct {
	Index    int    `json:"index"`
	Chunk    string `json:"chunk"`
	Encoding string `json:"encoding,omitempty"` // "base64", if the bytes are not UTF-8
}

// encode returns the item's data. Only the pacer calls it: it numbers the output.
func (o *outbox) encode(it *item) json.RawMessage {
	switch it.typ {
	case job.Log:
		return o.encodeLog(it)
	case job.Output:
		o.index++
		return o.encodeOutput(o.index-1, it.text)
	}
	return it.data
}

func (o *outbox) encodeOutput(index int, chunk []byte) json.RawMessage {
	if utf8.Valid(chunk) {
		if d := job.MustJSON(outputData{Index: index, Chunk: string(chunk)}); len(d) <= o.lim.Event {
			return d
		}
	}
	return job.MustJSON(outputData{index, base64.StdEncoding.EncodeToString(chunk), "base64"})
}

// bytes returns the chunk as it was written.
func (d *outputData) bytes() []byte {
	if d.Encoding == "" {
		return []byte(d.Chunk)
	}
	b, _ := base64.StdEncoding.DecodeString(d.Chunk) // ours
	return b
}

// encodeLog replaces control characters if they are so many that their escapes
// would make the event too large: it is for people.
func (o *outbox) encodeLog(it *item) json.RawMessage {
	d := job.MustJSON(logData{it.stream, string(it.text)})
	if len(d) <= o.lim.Event {
		return d
	}
	return job.MustJSON(logData{it.stream, string(bytes.Map(visible, it.text))})
}

func visible(r rune) rune {
	if r < ' ' && r != '\n' || r == '"' || r == '\\' {
		return utf8.RuneError
	}
	return r
}

// Package payload is what the jobs of the benchmark say.
package payload

import (
	"bytes"
	"strconv"
	"time"
)

// Type is the type of the events.
const Type = "bench.event"

// Data is the data of an event: with what is around it, 300 bytes on the wire.
type Data struct {
	At   int64  `json:"at"` // Unix nanoseconds of the moment it was said
	Text string `json:"text"`
}

// Now returns data that says when it was made.
func Now() Data {
	return Data{At: time.Now().UnixNano(), Text: "page 17 of 204: resampled, two warnings, 1.4 MB written"}
}

// Pacing says how fast to say events, and for how long.
type Pacing struct {
	Rate int // events a second
	For  time.Duration
}

// Each calls say for each event, with its number, when its time has come. It
// returns how many there were.
func (p Pacing) Each(say func(n int) error) (said int, err error) {
	tick := time.NewTicker(time.Second / time.Duration(p.Rate))
	defer tick.Stop()
	for end := time.Now().Add(p.For); time.Now().Before(end); said++ {
		<-tick.C
		if err := say(said); err != nil {
			return said, err
		}
	}
	return said, nil
}

var at = []byte(`"at":`)

// Ages calls each with the age of every event in b, the bytes of a stream, at
// the time now. An event of which b has only a part is left out.
func Ages(b []byte, now time.Time, each func(time.Duration)) {
	for {
		_, rest, found := bytes.Cut(b, at)
		text, rest, whole := bytes.Cut(rest, []byte{','})
		if !found || !whole {
			return
		}
		if said, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			each(time.Duration(now.UnixNano() - said))
		}
		b = rest
	}
}

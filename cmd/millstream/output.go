package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// chunk is a piece of a job's output, and its place in it.
type chunk struct {
	attempt, index int
	bytes          []byte
}

func chunkOf(e *client.Event) chunk {
	d := dataOf[struct {
		Index    int
		Chunk    string
		Encoding string
	}](e)
	c := chunk{attempt: e.Attempt, index: d.Index, bytes: []byte(d.Chunk)}
	if d.Encoding == "base64" {
		c.bytes, _ = base64.StdEncoding.DecodeString(d.Chunk) // the server's own: it decodes
	}
	return c
}

// output writes what a job puts out, as it comes. A piece that comes again, as
// the events may start over, is left out. What an attempt wrote before it failed
// stays above what the next one writes: nothing can be taken back.
type output struct {
	w    io.Writer
	last chunk     // that was written; attempt 0: none
	sum  hash.Hash // of what that attempt wrote

	inLine bool // it does not end with a newline
}

func (o *output) write(c chunk) error {
	if c.attempt < o.last.attempt || c.attempt == o.last.attempt && c.index <= o.last.index {
		return nil
	}
	if c.attempt > o.last.attempt {
		o.sum = sha256.New()
	}
	o.last = chunk{attempt: c.attempt, index: c.index}
	_, _ = o.sum.Write(c.bytes)
	if n := len(c.bytes); n > 0 {
		o.inLine = c.bytes[n-1] != '\n'
	}
	_, err := o.w.Write(c.bytes)
	return err
}

// wrote reports whether sum, in hex, is that of the attempt's whole output.
func (o *output) wrote(attempt int, sum string) bool {
	return o.last.attempt == attempt && attempt > 0 && hex.EncodeToString(o.sum.Sum(nil)) == sum
}

// result writes the result of the job that ended with e, unless it is what the
// job has put out already, or nothing.
func (o *output) result(ctx context.Context, c *client.Client, id job.ID, e *client.Event) error {
	d := dataOf[struct {
		Result struct{ SHA256 string }
	}](e)
	if d.Result.SHA256 != "" && o.wrote(e.Attempt, d.Result.SHA256) {
		return nil
	}
	r, err := c.Result(ctx, id)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if isTerminal(o.w) && !isText(r.Type) {
		return fmt.Errorf("the result is %s: send it to a file or another program, it is not for a terminal", clean(r.Type))
	}
	if r.Size < 0 || r.Size > job.MaxInline {
		_, err = io.Copy(o.w, r.Body)
		return err
	}
	return o.small(e.Attempt, r.Body)
}

// small writes a result of which the event had no checksum.
func (o *output) small(attempt int, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	if o.wrote(attempt, hex.EncodeToString(sum[:])) || string(b) == "null" {
		return nil
	}
	if isTerminal(o.w) && !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	_, err = o.w.Write(b)
	return err
}

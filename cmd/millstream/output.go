package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// stdout is where commands print. What cannot be written ends the program with an
// error of its own: who reads it did not get it all, and the server is not to blame.
type stdout struct {
	file *os.File
	err  error // the last one
}

func (s *stdout) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if err != nil {
		s.err = &exitError{exitFailed, fmt.Errorf("output: %w", err)}
		err = s.err
	}
	return n, err
}

// chunk is a piece of a job's output, and its place in that of its attempt.
type chunk struct {
	index  int
	bytes  []byte
	isText bool
}

func chunkOf(e *client.Event) chunk {
	d := dataOf[struct {
		Index    int
		Chunk    string
		Encoding string
	}](e)
	c := chunk{d.Index, []byte(d.Chunk), d.Encoding != "base64"}
	if !c.isText {
		c.bytes, _ = base64.StdEncoding.DecodeString(d.Chunk) // the server's own: it decodes
	}
	return c
}

// output writes what a job puts out, as it comes. A piece that comes again, as
// the events may start over, is left out. What a run wrote that came to nothing
// stays above what the next one writes: nothing can be taken back.
type output struct {
	w     io.Writer
	run   uint64    // seq of the last job.running, 0 if it was not shown: an attempt that is handed back runs twice
	wrote []written // the runs that put something out

	inLine bool // it does not end with a newline
}

// written is what was written of one run's output.
type written struct {
	seq   uint64 // of its job.running
	void  bool   // it came to nothing
	first int    // index of the first piece
	last  int
	size  int
	sum   hash.Hash
}

// begin takes a job.running: what is written from now on is that run's.
func (o *output) begin(e *client.Event) { o.run = e.Seq }

// current returns the run that put something out last; nil if none did.
func (o *output) current() *written {
	if len(o.wrote) == 0 {
		return nil
	}
	return &o.wrote[len(o.wrote)-1]
}

func (o *output) write(c chunk) error {
	if !o.take(c) {
		return nil
	}
	if n := len(c.bytes); n > 0 {
		o.inLine = c.bytes[n-1] != '\n'
	}
	_, err := o.w.Write(c.bytes)
	return err
}

// take notes a piece, and reports whether it is a new one.
func (o *output) take(c chunk) bool {
	r := o.current()
	switch {
	case r != nil && (o.run < r.seq || o.run == r.seq && c.index <= r.last):
		return false
	case r == nil || o.run > r.seq:
		o.wrote = append(o.wrote, written{seq: o.run, first: c.index, sum: sha256.New()})
		r = o.current()
	}
	r.last = c.index
	r.size += len(c.bytes)
	_, _ = r.sum.Write(c.bytes)
	return true
}

// isAll reports whether what the last run wrote has this checksum, in hex.
func (o *output) isAll(sum string) bool {
	r := o.current()
	return r != nil && r.seq == o.run && r.first == 0 && hex.EncodeToString(r.sum.Sum(nil)) == sum
}

// isEndOf reports whether b ends with what the last run wrote, or with that part of
// it which was shown.
func (o *output) isEndOf(b []byte) bool {
	r := o.current()
	if r == nil || r.seq != o.run || r.size > len(b) || r.first == 0 && r.size < len(b) {
		return false
	}
	sum := sha256.Sum256(b[len(b)-r.size:])
	return bytes.Equal(r.sum.Sum(nil), sum[:])
}

// errCut is the error of a result that is not all that the work has written.
var errCut = &exitError{exitFailed, errors.New("the result is cut: the work wrote more than limits.bytes_per_job lets a job's events have (a command's stdout: result has no such limit)")}

// result writes the result of the job that ended with e, unless it is what the
// job has put out already, or nothing.
func (o *output) result(ctx context.Context, c *client.Client, id job.ID, e *client.Event) error {
	d := dataOf[struct {
		Result struct {
			SHA256    string
			Truncated bool
		}
	}](e)
	var err error
	if d.Result.SHA256 == "" || !o.isAll(d.Result.SHA256) {
		err = o.fetch(ctx, c, id)
	}
	if err == nil && d.Result.Truncated {
		return errCut
	}
	return err
}

func (o *output) fetch(ctx context.Context, c *client.Client, id job.ID) error {
	r, err := c.Result(ctx, id)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body := bufio.NewReader(r.Body)
	if isTerminal(o.w) && !(isText(r.Type) && looksLikeText(body)) {
		return &exitError{exitFailed, fmt.Errorf("the result, %s, is no text: send it to a file or another program", clean(r.Type))}
	}
	if r.Size < 0 || r.Size > job.MaxInline {
		_, err = io.Copy(o.w, body)
		return err
	}
	return o.small(body)
}

// small writes a result of which the event had no checksum.
func (o *output) small(body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if o.isEndOf(b) || string(b) == "null" {
		return nil
	}
	if isTerminal(o.w) && !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	_, err = o.w.Write(b)
	return err
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// console shows one job: its output on one writer, and on another what becomes
// of it, in lines, with a bar below them once it makes progress on a terminal.
type console struct {
	out    *output
	status io.Writer
	shared bool // both write to the terminal
	screen io.Writer
	bars   *bars // nil while there is none
	rest   *wholeLines
}

func newConsole(out *output, status io.Writer) *console {
	return &console{out: out, status: status, screen: out.w, shared: isTerminal(out.w) && isTerminal(status)}
}

func (s *console) show(e *client.Event) error {
	switch {
	case e.Type == job.Output:
		return s.output(e)
	case e.Type == job.Running:
		s.out.begin(e)
	case e.Type == job.Progress && isTerminal(s.status):
		if s.bars == nil {
			s.begin(newBars(s.status, false))
		}
		return s.bars.show(e)
	case e.Type.Terminal():
		s.close()
	}
	s.line(clock(timeOf(e)) + " " + describe(e) + s.void(e))
	return nil
}

// output writes a piece of output; what is no text would only upset a terminal.
func (s *console) output(e *client.Event) error {
	c := chunkOf(e)
	if c.isText || !isTerminal(s.screen) {
		return s.out.write(c)
	}
	if s.out.take(c) {
		s.line(clock(timeOf(e)) + " " + describe(e) + " that are no text")
	}
	return nil
}

// void says of a run that came to nothing what this means for its output.
func (s *console) void(e *client.Event) string {
	r := s.out.current()
	over := e.Type == job.AttemptFailed || e.Type == job.Queued
	if !over || r == nil || r.void || r.seq != s.out.run || e.Seq < r.seq {
		return ""
	}
	r.void = true
	if s.out.inLine && !s.shared { // the next one's does not go on in its line
		_, _ = s.screen.Write([]byte{'\n'})
		s.out.inLine = false
	}
	return "; its output so far does not count"
}

func (s *console) lost(_ job.ID, text string) { s.line(clock(time.Now()) + " " + text) }

func (s *console) found(id job.ID) { s.lost(id, backText) }

// line writes a line about the job, above the bar and not into a line of output.
func (s *console) line(text string) {
	w := s.status
	if s.bars != nil {
		w = s.bars
	} else if s.shared && s.out.inLine {
		text, s.out.inLine = "\n"+text, false
	}
	fmt.Fprintln(w, text) // where nobody can read it the output still counts
}

// begin shows the bar. Output to the same terminal goes above it from now on, a
// line at a time.
func (s *console) begin(b *bars) {
	if s.shared && s.out.inLine {
		fmt.Fprintln(s.screen)
	}
	s.bars = b
	if s.shared {
		s.rest = &wholeLines{w: s.bars}
		s.out.w = s.rest
	}
}

// close takes the bar away.
func (s *console) close() {
	if s.bars == nil {
		return
	}
	if s.rest != nil {
		s.rest.flush()
		s.out.w, s.rest, s.out.inLine = s.screen, nil, false
	}
	s.bars.close()
	s.bars = nil
}

// wholeLines passes on whole lines only, which is all that can stand above a bar.
type wholeLines struct {
	w    io.Writer
	rest []byte
}

func (l *wholeLines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	n := bytes.LastIndexByte(l.rest, '\n') + 1
	if n == 0 {
		return len(p), nil
	}
	_, err := l.w.Write(l.rest[:n])
	l.rest = append([]byte(nil), l.rest[n:]...)
	return len(p), err
}

func (l *wholeLines) flush() {
	if len(l.rest) > 0 {
		_, _ = l.Write([]byte("\n"))
	}
}

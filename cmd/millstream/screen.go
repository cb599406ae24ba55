package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// screen shows the events of the jobs that are watched. It is called from many
// goroutines.
type screen interface {
	show(e *client.Event) error
	lost(id job.ID, text string) // its watch waits for the server
	found(id job.ID)             // it waits no longer
	close()                      // nothing more comes
}

// backText is what is said of a server that was lost and is found.
const backText = "the server is back"

// isTerminal reports whether what a command reads or writes is a terminal.
func isTerminal(stream any) bool {
	f := fileOf(stream)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// fileOf returns the file that a command reads or writes; nil if it is none.
func fileOf(stream any) *os.File {
	switch s := stream.(type) {
	case *os.File:
		return s
	case *stdout:
		return s.file
	}
	return nil
}

// isText reports whether content of the media type can be shown to people.
func isText(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasPrefix(t, "text/") || job.IsJSON(contentType))
}

// looksLikeText reports whether what comes can be shown to people, whatever its
// media type says: that of a command's output is text unless it was told otherwise.
func looksLikeText(r *bufio.Reader) bool {
	front, _ := r.Peek(512) // all that DetectContentType looks at; an error comes again
	return strings.HasPrefix(http.DetectContentType(front), "text/")
}

// jsonLines shows each event as the object it came as, on a line of its own.
type jsonLines struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *jsonLines) show(e *client.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(append(bytes.Clone(e.JSON), '\n'))
	return err
}

func (s *jsonLines) lost(job.ID, string) {}
func (s *jsonLines) found(job.ID)        {}
func (s *jsonLines) close()              {}

// lines shows each event of several jobs in a line for people.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *lines) show(e *client.Event) error { return s.line(timeOf(e), e.Job, describe(e)) }

// lost leaves it to the next line to fail if this one cannot be written.
func (s *lines) lost(id job.ID, text string) { _ = s.line(time.Now(), id, text) }

func (s *lines) found(id job.ID) { s.lost(id, backText) }

func (s *lines) line(at time.Time, id job.ID, text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := fmt.Fprintf(s.w, "%s %s %s\n", clock(at), id, text)
	return err
}

func (s *lines) close() {}

// timeOf returns when it happened; what is for one reader only happens now.
func timeOf(e *client.Event) time.Time {
	if e.Time.IsZero() {
		return time.Now()
	}
	return e.Time
}

// nothing shows nothing.
type nothing struct{}

func (nothing) show(*client.Event) error { return nil }
func (nothing) lost(job.ID, string)      {}
func (nothing) found(job.ID)             {}
func (nothing) close()                   {}

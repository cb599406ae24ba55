package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/millstream/millstream/pkg/millstream"
)

// banner is what a person sees first who starts the server on a terminal: where
// it is, what it does, and what to type next.
type banner struct {
	url, data, nats string
	kinds           []millstream.Kind
}

func (b banner) print(w io.Writer) {
	b.url = "http://" + local(strings.TrimPrefix(b.url, "http://"))
	fmt.Fprintf(w, "\n  Millstream %s is ready on %s\n\n", versionText(), b.url)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	title := "Kinds"
	for _, k := range b.kinds {
		fmt.Fprintf(t, "  %s\t%s\t%s\n", title, k.Name, b.about(k))
		title = ""
	}
	fmt.Fprintf(t, "  Store\t%s\n", b.store())
	_ = t.Flush() // a banner that cannot be written is no reason to stop
	fmt.Fprintf(w, "\n  Submit a job and watch it, here the first kind:\n\n    %s\n\n", b.curl())
	fmt.Fprintf(w, "  Ctrl-C stops it in peace, twice at once.\n\n")
}

func (b banner) about(k millstream.Kind) string {
	if k.Description != "" {
		return k.Description
	}
	return k.Worker
}

func (b banner) store() string {
	switch {
	case b.nats != "":
		return b.nats
	case b.data == "memory":
		return "in memory: nothing is kept"
	}
	return b.data
}

// curl returns a command that works when it is pasted.
func (b banner) curl() string {
	return strings.Join([]string{
		"curl -N " + b.url + "/v1/kinds/" + b.kinds[0].Name + "/jobs",
		"-H 'Accept: text/event-stream'",
		"-H 'Content-Type: text/plain'",
		"-d 'slow is smooth and smooth is fast'",
	}, ` \`+"\n      ")
}

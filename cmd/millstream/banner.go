package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/millstream/millstream/pkg/millstream"
)

// banner is what a person sees first who starts the server on a terminal: where
// it is, what it does, and what to type next.
type banner struct {
	url, data, nats string
	kinds           []millstream.Kind
	samples         bool
	key             bool // callers are asked for it
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
	if b.samples {
		fmt.Fprintln(t, "  \t\tThese are samples: see 'millstream serve --help' for kinds of your own.")
	}
	fmt.Fprintf(t, "  Store\t%s\n", b.store())
	_ = t.Flush() // a banner that cannot be written is no reason to stop
	fmt.Fprintf(w, "\n  Submit a job and watch it:\n\n    %s\n\n", b.curl())
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
	case b.data == millstream.Memory:
		return "in memory: nothing is kept"
	}
	return b.data
}

// curl returns a command that works when it is pasted, unless every kind wants
// input of a certain shape.
func (b banner) curl() string {
	kinds := slices.DeleteFunc(slices.Clone(b.kinds), func(k millstream.Kind) bool { return k.Path() != "" })
	parts := []string{"curl -i " + b.url + strings.TrimSuffix(b.kinds[0].Path(), "*"), "-H 'Prefer: respond-async'"}
	if len(kinds) > 0 {
		parts = b.submit(kinds)
	}
	if b.key {
		parts = append(parts, `-H "Authorization: Bearer $`+keyVariable+`"`)
	}
	return strings.Join(parts, ` \`+"\n      ")
}

// submit returns the parts of a command that submits a job of one of the kinds.
func (b banner) submit(kinds []millstream.Kind) []string {
	kind, mediaType, input := kinds[0], "application/json", "{}"
	if i := slices.IndexFunc(kinds, func(k millstream.Kind) bool { return k.Input == nil }); i >= 0 {
		kind, mediaType, input = kinds[i], "text/plain", "slow is smooth and smooth is fast"
	}
	return []string{
		"curl -N " + b.url + "/v1/kinds/" + kind.Name + "/jobs",
		"-H 'Accept: text/event-stream'",
		"-H 'Content-Type: " + mediaType + "'",
		"-d '" + input + "'",
	}
}

// onLoopback reports whether only this machine reaches the URL: nobody is asked for a
// key there, unless one is configured.
func onLoopback(at string) bool {
	u, err := url.Parse(at)
	return err == nil && net.ParseIP(u.Hostname()).IsLoopback()
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// submission is what the command line says about a submit.
type submission struct {
	options  client.SubmitOptions
	input    string
	wait     time.Duration
	deadline time.Duration
	runAt    string
	batch    string // where the jobs are, if they are many
	watch    bool
	json     bool
}

func submitCommand() *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit KIND [FILE|-]",
		Short: "Submits a job, or many",
		Long: `Submits a job and prints its id. The input is a file, standard input, or --input.

With --watch it follows the job as 'watch' does. With --wait it waits in silence and
prints the result. Either prints the id on standard error first, to go on with if it
is interrupted, and its exit code is how the job ended; see 'millstream --help'. With
--cancel-on-disconnect besides, the job does not outlive the command: ten seconds after that
is gone, interrupted, killed or at the end of --wait, the server asks the job to end.

With --batch it submits up to 1,000 jobs at once, one a line of a file or standard input, as
objects with "kind", "input" and options, and prints their ids in that order. The id of the
batch, for 'list --batch' and 'tail --batch', is on standard error, and so are those that are
refused; the others are stored then, and the exit code is 4.`,
		Example: `  millstream submit wordcount book.txt
  millstream submit wordcount book.txt --wait 30s         # prints the result
  millstream submit resize --input '{"url":"https://example.com/a.png"}' --watch
  tar c photos | millstream submit backup --type application/x-tar --tag nightly
  millstream submit --batch jobs.ndjson                   # {"kind":"resize","input":{…}} and so on`,
		Args: s.arguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			if err := s.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("batch") {
				return s.submitBatch(cmd, server)
			}
			source, err := s.source(cmd, args[1:])
			if err != nil {
				return err
			}
			defer source.Close()
			input, err := s.read(cmd.Context(), source)
			if err != nil {
				return err
			}
			return s.run(cmd, server, args[0], input)
		},
	}
	serverFlags(cmd)
	s.flags(cmd)
	return cmd
}

func (s *submission) flags(cmd *cobra.Command) {
	f, o := cmd.Flags(), &s.options
	f.StringVarP(&s.input, "input", "i", "", "the input itself, a `text` in place of a file")
	f.StringVar(&o.ContentType, "type", "", "media `type` of the input (default: JSON if it is an object or array, else what it looks like)")
	f.StringArrayVar(&o.Tags, "tag", nil, "a `tag` to find the job by; may be repeated")
	f.StringVar(&o.Priority, "priority", "", "the job's `level`: low, normal or high (default: the kind's)")
	f.Var(flagOf(&o.Timeout, someTime), "timeout", "how long an attempt may take (default: the kind's)")
	f.Var(flagOf(&o.MaxAttempts, atLeastOnce), "max-attempts", "how often to try (default: the kind's)")
	f.Var(flagOf(&o.Retention, someTime), "retention", "how long to keep the job after its end (default: the kind's)")
	f.Var(flagOf(&o.Delay, someTime), "delay", "do not begin before this time has passed (default: begin at once)")
	f.StringVar(&s.runAt, "run-at", "", "do not begin before this `time`, such as 2026-11-22T10:00:00Z")
	f.Var(flagOf(&o.StartTimeout, someTime), "start-timeout", "fail if no worker has begun by then (default: wait for ever)")
	f.Var(flagOf(&s.deadline, someTime), "deadline", "fail if it is not over by then, from now on (default: none)")
	f.Var(flagOf(&o.Webhook, notEmpty), "webhook", "a `URL` that the job's end is sent to, signed, until it is received")
	f.BoolVar(&o.CancelOnDisconnect, "cancel-on-disconnect", false, "with --watch or --wait: have the job canceled once this command is gone")
	f.StringVar(&s.batch, "batch", "", "a `file` with a job on each line, - for standard input, in place of KIND and FILE")
	s.afterFlags(cmd)
}

var priorities = map[string]job.Priority{"low": job.Low, "normal": job.Normal, "high": job.High}

// check looks at the priority, reads the times, and sees to the key.
func (s *submission) check() error {
	if s.options.CancelOnDisconnect && !s.follows() {
		return errors.New("--cancel-on-disconnect goes with --watch or --wait: else there is no connection that could be lost")
	}
	p := s.options.Priority
	if _, ok := priorities[p]; !ok && p != "" {
		return fmt.Errorf("--priority %s: must be low, normal or high", p)
	}
	if s.runAt != "" {
		at, err := time.Parse(time.RFC3339, s.runAt)
		if err != nil {
			return fmt.Errorf("--run-at %s: must be a time such as 2026-11-22T10:00:00Z", s.runAt)
		}
		s.options.RunAt = at
	}
	if s.deadline > 0 {
		s.options.Deadline = time.Now().Add(s.deadline)
	}
	if s.options.Key == "" {
		s.options.Key = rand.Text()
	}
	return nil
}

// source returns where the input comes from. It may come for ever.
func (s *submission) source(cmd *cobra.Command, file []string) (io.ReadCloser, error) {
	given, in := cmd.Flags().Changed("input"), cmd.InOrStdin()
	switch {
	case given && len(file) > 0:
		return nil, errors.New("--input and a file are two inputs")
	case given:
		return io.NopCloser(strings.NewReader(s.input)), nil
	case len(file) > 0 && file[0] != "-":
		return os.Open(file[0])
	case len(file) == 0 && isTerminal(in):
		return nil, errors.New("no input: name a FILE, use --input, or pipe something in ('-' reads from the terminal)")
	}
	return io.NopCloser(in), nil
}

// maxPeek is how much of the input is looked at before it is sent: all of what a
// server takes unless it is told otherwise.
const maxPeek = 1 << 20

// read returns the input, and sets the media type that it seems to have. What is
// longer than most servers take is sent while it is read: it may have no end.
func (s *submission) read(ctx context.Context, source io.Reader) (io.Reader, error) {
	front, err := peek(ctx, source)
	if err != nil {
		return nil, err
	}
	if s.options.ContentType == "" {
		s.options.ContentType = sniff(front)
	}
	if len(front) < maxPeek {
		return bytes.NewReader(front), nil
	}
	return io.MultiReader(bytes.NewReader(front), source), nil
}

// peek reads the front of the input, unless the user does not wait for it: what
// comes from a terminal or a pipe may take as long as it likes.
func peek(ctx context.Context, source io.Reader) (front []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		front, err = io.ReadAll(io.LimitReader(source, maxPeek))
	}()
	select {
	case <-done:
		return front, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sniff returns the media type that the front of an input seems to have. A number or
// a word is JSON too, but more likely a text.
func sniff(front []byte) string {
	b := bytes.TrimSpace(front)
	if len(b) > 0 && (b[0] == '{' || b[0] == '[') && (json.Valid(b) || len(front) == maxPeek && beginsJSON(b)) {
		return "application/json"
	}
	return http.DetectContentType(front)
}

// beginsJSON reports whether nothing is wrong with b as JSON but that it ends early.
func beginsJSON(b []byte) bool {
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

func (s *submission) run(cmd *cobra.Command, server *remote, kind string, input io.Reader) error {
	if s.options.CancelOnDisconnect {
		f := s.following()
		f.submit = s.held(cmd, server, kind, input)
		return server.followOne(cmd.Context(), "", f, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	j, err := server.Submit(cmd.Context(), kind, input, &s.options)
	return s.submitted(cmd, server, j, err)
}

// held submits the job on the connection that its events come on, and tells its id first.
func (s *submission) held(cmd *cobra.Command, server *remote, kind string, input io.Reader) func(context.Context) iter.Seq2[client.Event, error] {
	return func(ctx context.Context) iter.Seq2[client.Event, error] {
		return func(yield func(client.Event, error) bool) {
			told := false
			for e, err := range server.SubmitAndWatch(ctx, kind, input, &s.options) {
				if err == nil && !told {
					told = true
					fmt.Fprintln(cmd.ErrOrStderr(), e.Job)
				}
				if !yield(e, err) {
					return
				}
			}
		}
	}
}

// follows reports whether the command stays until the job is over.
func (s *submission) follows() bool { return s.watch || s.wait > 0 }

// submitted does what is to be done once there is a job, or none.
func (s *submission) submitted(cmd *cobra.Command, server *remote, j *client.Job, err error) error {
	ctx, out, status := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	switch {
	case err != nil:
		return server.unanswered(status, err)
	case s.follows():
		fmt.Fprintln(status, j.ID) // before anything can come between
		return server.followOne(ctx, j.ID, s.following(), out, status)
	case s.json:
		_, err = fmt.Fprintf(out, "%s\n", j.JSON)
	default:
		_, err = fmt.Fprintln(out, j.ID)
	}
	return err
}

func (s *submission) following() following {
	f := following{view: viewResult, within: s.wait}
	switch {
	case s.watch && s.json:
		f.view = viewEvents
	case s.watch:
		f.view = viewAll
	case s.json:
		f.view = viewJob
	}
	return f
}

// unanswered says of a submit that failed when there may be a job all the same.
func (r *remote) unanswered(status io.Writer, err error) error {
	const unknown = "the job may have been stored, or not"
	var input *fs.PathError
	switch {
	case errors.As(err, &input):
		return input
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(status, "Interrupted before the answer: "+unknown+".")
	case errors.Is(err, errNotOver):
		return &exitError{exitNotOver, fmt.Errorf("%w, nor was the submit answered; %s", err, unknown)}
	case away(err) != nil && !neverReached(err):
		return &exitError{exitServer, fmt.Errorf("%w; %s", inPlainWords(r.address, err), unknown)}
	}
	return r.fault(err)
}

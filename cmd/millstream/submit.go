package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// submission is what the command line says about a submit.
type submission struct {
	options  client.SubmitOptions
	priority string
	input    string
	watch    bool
	json     bool
}

func submitCommand() *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit KIND [FILE|-]",
		Short: "Submits a job",
		Long: `Submits a job and prints its id. The input is a file, standard input, or --input.

With --watch it follows the job as 'watch' does. With --wait it waits in silence and
prints the result. The exit code is then how the job ended; see 'millstream --help'.`,
		Example: `  millstream submit wordcount book.txt
  millstream submit wordcount book.txt --wait 30s         # prints the result
  millstream submit resize --input '{"url":"https://example.com/a.png"}' --watch
  tar c photos | millstream submit backup --type application/x-tar --tag nightly`,
		Args: between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			input, err := s.read(cmd, args[1:])
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
	f.StringVarP(&s.input, "input", "i", "", "the input itself, in place of a file")
	f.StringVar(&o.ContentType, "type", "", "media `type` of the input (default: JSON if it is an object or array, else what it looks like)")
	f.StringArrayVar(&o.Tags, "tag", nil, "a tag to find the job by; may be repeated")
	f.StringVar(&s.priority, "priority", job.Normal.String(), "low, normal or high")
	f.DurationVar(&o.Timeout, "timeout", 0, "how long an attempt may take (default: the kind's)")
	f.IntVar(&o.MaxAttempts, "max-attempts", 0, "how often to try (default: the kind's)")
	f.DurationVar(&o.Retention, "retention", 0, "how long to keep the job after its end (default: the kind's)")
	f.BoolVarP(&s.watch, "watch", "w", false, "follow the job to its end")
	f.DurationVar(&o.Wait, "wait", 0, "wait this long for the end, then end with 5")
	f.BoolVar(&s.json, "json", false, "print the job's JSON object, or with --watch each event's")
}

var priorities = map[string]job.Priority{"low": job.Low, "normal": job.Normal, "high": job.High}

// read returns the input, and sets the options that depend on it.
func (s *submission) read(cmd *cobra.Command, file []string) ([]byte, error) {
	p, ok := priorities[s.priority]
	if !ok {
		return nil, fmt.Errorf("--priority %s: must be low, normal or high", s.priority)
	}
	s.options.Priority = p
	input, err := s.source(cmd, file)
	if s.options.ContentType == "" {
		s.options.ContentType = sniff(input)
	}
	return input, err
}

func (s *submission) source(cmd *cobra.Command, file []string) ([]byte, error) {
	given, in := cmd.Flags().Changed("input"), cmd.InOrStdin()
	switch {
	case given && len(file) > 0:
		return nil, errors.New("--input and a file are two inputs")
	case given:
		return []byte(s.input), nil
	case len(file) > 0 && file[0] != "-":
		return os.ReadFile(file[0])
	case len(file) == 0 && isTerminal(in):
		return nil, errors.New("no input: name a FILE, use --input, or pipe something in ('-' reads from the terminal)")
	}
	return io.ReadAll(in)
}

// sniff returns the media type that the input seems to have. A number or a word
// is JSON too, but more likely a text.
func sniff(input []byte) string {
	b := bytes.TrimSpace(input)
	if len(b) > 0 && (b[0] == '{' || b[0] == '[') && json.Valid(b) {
		return "application/json"
	}
	return http.DetectContentType(input)
}

func (s *submission) run(cmd *cobra.Command, server *remote, kind string, input []byte) error {
	ctx, out, status := cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	start := time.Now()
	j, err := server.Submit(ctx, kind, bytes.NewReader(input), &s.options)
	if err != nil {
		return server.fault(err)
	}
	if s.options.Wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, start.Add(s.options.Wait), errNotOver)
		defer stop()
	}
	switch {
	case s.watch:
		fmt.Fprintln(status, j.ID)
		return server.followOne(ctx, j.ID, "", s.json, out, status)
	case s.options.Wait > 0:
		return s.wait(ctx, server, j, out, status)
	case s.json:
		_, err = fmt.Fprintf(out, "%s\n", j.JSON)
	default:
		_, err = fmt.Fprintln(out, j.ID)
	}
	return unwritten(err)
}

// wait waits for the job's end and prints its result, or the job.
func (s *submission) wait(ctx context.Context, server *remote, j *client.Job, out, status io.Writer) error {
	if !j.Status.Over() {
		last, err := server.follow(ctx, j.ID, "", nothing{})
		if err != nil {
			return server.interrupted(status, j.ID, last, err)
		}
		if j, err = server.Job(ctx, j.ID); err != nil {
			return server.fault(err)
		}
	}
	switch {
	case s.json:
		if _, err := fmt.Fprintf(out, "%s\n", j.JSON); err != nil {
			return unwritten(err)
		}
	case j.Status == job.StatusSucceeded:
		o := &output{w: out}
		return server.fault(o.result(ctx, server.Client, j.ID, new(client.Event)))
	default:
		fmt.Fprintf(status, "%s %s\n", j.ID, clean(outcome(j)))
	}
	return ofStatus(j.Status)
}

func outcome(j *client.Job) string {
	if j.Error != nil {
		return string(j.Status) + ": " + j.Error.Error()
	}
	return string(j.Status)
}

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/millstream/millstream/pkg/client"
)

// batchFlags may stand beside --batch. All else is said of each job by its line.
var batchFlags = []string{"batch", "once", "json", serverFlag}

// arguments checks those of submit: a batch has none.
func (s *submission) arguments(cmd *cobra.Command, args []string) error {
	if !cmd.Flags().Changed("batch") {
		return between(1, 2)(cmd, args)
	}
	if len(args) > 0 {
		return fmt.Errorf("--batch has its jobs in its lines: %q is too much", args[0])
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(batchFlags, f.Name) {
			err = fmt.Errorf("--%s goes with one job: a batch has it in its lines, or not at all", f.Name)
		}
	})
	return err
}

// submitBatch submits the jobs that the lines of a file are, and prints the id of each.
func (s *submission) submitBatch(cmd *cobra.Command, server *remote) error {
	source, err := s.source(cmd, []string{s.batch})
	if err != nil {
		return err
	}
	defer source.Close()
	s.options.ContentType = "application/x-ndjson"
	lines, err := s.read(cmd.Context(), source)
	if err != nil {
		return err
	}
	b, err := server.SubmitBatch(cmd.Context(), lines, s.options.Key)
	if err != nil {
		return server.unanswered(cmd.ErrOrStderr(), err)
	}
	if err := s.printBatch(cmd.OutOrStdout(), cmd.ErrOrStderr(), b); err != nil {
		return err
	}
	return server.refusedOf(cmd.ErrOrStderr(), b)
}

// printBatch prints the ids of its jobs on out, and its own, for list and tail, on status; or
// all of it as it was received.
func (s *submission) printBatch(out, status io.Writer, b *client.Batch) error {
	if s.json {
		_, err := fmt.Fprintf(out, "%s\n", b.JSON)
		return err
	}
	fmt.Fprintln(status, b.ID)
	return printIDs(out, b)
}

// printIDs prints the ids of the jobs that were stored, each on a line.
func printIDs(w io.Writer, b *client.Batch) error {
	for _, j := range b.Jobs {
		if j.Job == nil {
			continue
		}
		if _, err := fmt.Fprintln(w, j.Job.ID); err != nil {
			return err
		}
	}
	return nil
}

// refusedOf says why jobs of a batch were refused; nil: none was.
func (r *remote) refusedOf(status io.Writer, b *client.Batch) (err error) {
	for i, j := range b.Jobs {
		if j.Problem != nil {
			err = r.fault(fmt.Errorf("job %d of %d: %w", i+1, len(b.Jobs), j.Problem))
			report(status, err)
		}
	}
	return said(err)
}

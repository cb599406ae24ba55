package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/job"
)

func watchCommand() *cobra.Command {
	var asJSON bool
	var after string
	cmd := &cobra.Command{
		Use:   "watch JOB...",
		Short: "Follows jobs to their end",
		Long: `Follows jobs to their end, however often the connection is lost on the way.

Of one job, its output and its result go to standard output and everything else to
standard error: a bar on a terminal, lines elsewhere. Of several, standard output has
a bar for each on a terminal, and a line for each event elsewhere.

The exit code is how the job ended; see 'millstream --help'.`,
		Example: `  millstream watch job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream watch $(cat jobs)                            # several at once
  millstream watch --json job_01k3z9a1b2c3d4e5f6g7h8j9k0 | jq .type`,
		Args: between(1, many),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			if len(ids) == 1 {
				return server.followOne(cmd.Context(), job.ID(ids[0]), after, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			if after != "" {
				return errors.New("--after names an event of one job, and these are several")
			}
			return server.followAll(cmd.Context(), ids, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	serverFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write each event as its JSON object, one a line")
	cmd.Flags().StringVar(&after, "after", "", "begin behind the event with this `id`; 'latest' skips what has happened")
	return cmd
}

// followAll shows several jobs to their ends. The error stands for the worst of
// these.
func (r *remote) followAll(ctx context.Context, ids []string, asJSON bool, out, status io.Writer) error {
	slices.Sort(ids)
	ids = slices.Compact(ids)
	s := screenFor(ids, asJSON, out)
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { errs[i] = r.followIn(ctx, s, job.ID(id)) })
	}
	wg.Wait()
	s.close()
	for i, err := range errs {
		if err != nil {
			report(status, fmt.Errorf("%s: %w", ids[i], err))
		}
	}
	return said(worst(errs))
}

func (r *remote) followIn(ctx context.Context, s screen, id job.ID) error {
	last, err := r.follow(ctx, id, "", s)
	if err != nil {
		return r.fault(err)
	}
	end, err := r.ending(ctx, id, last)
	if err != nil {
		return r.fault(err)
	}
	return ofStatus(end)
}

// screenFor returns where several jobs are shown.
func screenFor(ids []string, asJSON bool, out io.Writer) screen {
	switch {
	case asJSON:
		return &jsonLines{w: out}
	case !isTerminal(out):
		return &lines{w: out}
	}
	b := newBars(out, true)
	for _, id := range ids {
		b.add(job.ID(id))
	}
	return b
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/job"
)

// watching is what the command line says about a watch.
type watching struct {
	json, result bool
	after        string
}

func watchCommand() *cobra.Command {
	var w watching
	cmd := &cobra.Command{
		Use:   "watch JOB...",
		Short: "Follows jobs to their end",
		Long: `Follows jobs to their end, however often the connection is lost on the way.

Of one job, its output and its result go to standard output and everything else to
standard error: a bar on a terminal, lines elsewhere. A result that is the output is
not printed twice. If an attempt fails and another follows, what both of them put out
is printed, one behind the other; --result has only what the last one made.

Of several, standard output has a bar for each on a terminal, and a line for each
event elsewhere.

The exit code is how the job ended; see 'millstream --help'.`,
		Example: `  millstream watch job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream watch --result job_01k3z9a1b2c3d4e5f6g7h8j9k0 > photos.tar
  millstream watch $(cat jobs)                            # several at once
  millstream watch --json job_01k3z9a1b2c3d4e5f6g7h8j9k0 | jq .type`,
		Args: between(1, many),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			slices.Sort(ids)
			ids = slices.Compact(ids)
			if err := w.check(len(ids)); err != nil {
				return err
			}
			if len(ids) > 1 {
				return server.followAll(cmd.Context(), ids, w.json, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return server.followOne(cmd.Context(), job.ID(ids[0]), w.following(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	serverFlags(cmd)
	cmd.Flags().BoolVar(&w.json, "json", false, "write each event as its JSON object, one a line")
	cmd.Flags().BoolVar(&w.result, "result", false, "wait in silence and print the result alone")
	cmd.Flags().StringVar(&w.after, "after", "", "begin behind the event with this `id`; 'latest' skips what has happened")
	return cmd
}

// check returns what is wrong with these flags for so many jobs.
func (w *watching) check(jobs int) error {
	switch {
	case w.after != "" && jobs > 1:
		return errors.New("--after names an event of one job, and these are several")
	case w.result && jobs > 1:
		return errors.New("--result is that of one job, and these are several")
	case w.result && (w.json || w.after != ""):
		return errors.New("--result prints no events: it goes with neither --json nor --after")
	}
	return nil
}

func (w *watching) following() following {
	switch {
	case w.result:
		return following{view: viewResult}
	case w.json:
		return following{view: viewEvents, after: w.after}
	}
	return following{after: w.after}
}

// followAll shows several jobs to their ends. The error stands for the worst of
// these.
func (r *remote) followAll(ctx context.Context, ids []string, asJSON bool, out, status io.Writer) error {
	r.screen = screenFor(ids, asJSON, out)
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() { errs[i] = r.followAmong(ctx, job.ID(id)) })
	}
	wg.Wait()
	r.screen.close()
	if ctx.Err() != nil {
		fmt.Fprintf(status, "The jobs go on: millstream watch%s %s\n", r.flags, strings.Join(ids, " "))
	}
	for i, err := range errs {
		if err != nil {
			report(status, fmt.Errorf("%s: %w", ids[i], err))
		}
	}
	return said(worst(errs))
}

func (r *remote) followAmong(ctx context.Context, id job.ID) error {
	last, err := r.follow(r.Events(ctx, id, ""))
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
	b := newBars(fileOf(out), true)
	for _, id := range ids {
		b.add(job.ID(id))
	}
	return b
}

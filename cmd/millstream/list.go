package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const (
	usualList = 20  // jobs: a screenful
	pageSize  = 100 // jobs the server is asked for at once: as many as it gives
)

// listing is what the command line says about a list.
type listing struct {
	options client.ListOptions
	status  []string
	limit   int
	all     bool
	json    bool
}

func listCommand() *cobra.Command {
	l := listing{limit: usualList}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Lists jobs, newest first",
		Long: `Lists jobs, newest first: id, kind, status, attempt, when it was created, and tags.
On a terminal the columns have names, and say how long ago that was. With --json each
job is its JSON object, one a line; a result that is not small stands there by
reference. With --batch the key may be the read token of that batch.`,
		Example: `  millstream list
  millstream list --status failed --created-after 24h --all
  millstream list --kind resize --tag nightly --json | jq .error
  millstream list --status queued --all | awk '{print $1}' | xargs millstream cancel`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			if err := l.check(cmd); err != nil {
				return err
			}
			return l.run(cmd, server)
		},
	}
	serverFlags(cmd)
	l.flags(cmd)
	return cmd
}

func (l *listing) flags(cmd *cobra.Command) {
	f, o := cmd.Flags(), &l.options
	f.StringArrayVar(&l.status, "status", nil, "queued, running, succeeded, failed or canceled; may be repeated: any of these `status`es")
	f.StringArrayVar(&o.Kinds, "kind", nil, "a `kind`; may be repeated: any of these")
	f.StringArrayVar(&o.Tags, "tag", nil, "a `tag`; may be repeated: all of these")
	f.StringVar(&o.Batch, "batch", "", "the `id` of the batch they were submitted with")
	f.Var(moment{&o.CreatedAfter}, "created-after", "created then or later: a time, or how long ago")
	f.Var(moment{&o.CreatedBefore}, "created-before", "created earlier: a time, or how long ago")
	f.Var(flagOf(&l.limit, atLeastOnce), "limit", fmt.Sprintf("list so many at most (default %d)", usualList))
	f.BoolVar(&l.all, "all", false, "list all there are")
	f.BoolVar(&l.json, "json", false, "print each job's JSON object, one a line")
}

// moment is the value of a flag that is a time, or how long ago it was.
type moment struct{ to *time.Time }

func (m moment) Set(s string) (err error) {
	if *m.to, err = time.Parse(time.RFC3339, s); err == nil {
		return nil
	}
	ago, err := parseDuration(s)
	if err != nil || ago < 0 {
		return errors.New("must be a time such as 2026-11-22T10:00:00Z, or how long ago: 90s, 10m or 1h30m")
	}
	*m.to = time.Now().Add(-time.Duration(ago))
	return nil
}

func (m moment) String() string { return "" }

// Type is what --help calls it.
func (m moment) Type() string { return "time" }

func (l *listing) check(cmd *cobra.Command) error {
	if l.all && cmd.Flags().Changed("limit") {
		return errors.New("--all and --limit are two ends")
	}
	for _, s := range l.status {
		status := job.Status(s)
		if status != job.StatusQueued && status != job.StatusRunning && !status.Over() {
			return fmt.Errorf("--status %s: must be queued, running, succeeded, failed or canceled", s)
		}
		l.options.Statuses = append(l.options.Statuses, status)
	}
	return nil
}

// run asks for page after page, and prints each as it comes.
func (l *listing) run(cmd *cobra.Command, server *remote) error {
	out, named := cmd.OutOrStdout(), isTerminal(cmd.OutOrStdout())
	for left := l.limit; ; {
		l.options.Limit = pageSize
		if !l.all {
			l.options.Limit = min(left, pageSize)
		}
		p, err := server.List(cmd.Context(), &l.options)
		if err != nil {
			return server.fault(err)
		}
		if err := l.print(out, p.Jobs, named); err != nil {
			return err
		}
		named = named && len(p.Jobs) == 0
		left -= len(p.Jobs)
		l.options.Cursor = p.Cursor
		switch {
		case p.Cursor == "":
			return nil
		case !l.all && left <= 0:
			if isTerminal(out) {
				fmt.Fprintln(cmd.ErrOrStderr(), "There are more: --limit lists more of them, --all all.")
			}
			return nil
		}
	}
}

// print prints jobs, each on a line; with names above the columns if there are any.
func (l *listing) print(w io.Writer, jobs []*client.Job, named bool) error {
	if l.json {
		for _, j := range jobs {
			if _, err := fmt.Fprintf(w, "%s\n", j.JSON); err != nil {
				return err
			}
		}
		return nil
	}
	return table(w, jobs, named)
}

func table(w io.Writer, jobs []*client.Job, named bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if named && len(jobs) > 0 {
		fmt.Fprintln(t, "JOB\tKIND\tSTATUS\tATTEMPT\tAGE\tTAGS")
	}
	created := func(at time.Time) string { return job.Time(at).String() }
	if isTerminal(w) {
		created = age
	}
	for _, j := range jobs {
		tags := cmp.Or(clean(strings.Join(j.Tags, ",")), "-")
		fmt.Fprintf(t, "%s\t%s\t%s\t%d/%d\t%s\t%s\n", j.ID, clean(j.Kind), j.Status, j.Attempt, j.MaxAttempts, created(j.CreatedAt), tags)
	}
	return t.Flush()
}

// age says how long ago a time was, in its two largest units.
func age(t time.Time) string {
	d := max(0, time.Since(t))
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
}

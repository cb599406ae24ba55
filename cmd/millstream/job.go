package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

func jobCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "job JOB",
		Short: "Shows a job as it stands",
		Example: `  millstream job job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream job --json job_01k3z9a1b2c3d4e5f6g7h8j9k0 | jq .result`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			j, err := server.Job(cmd.Context(), job.ID(args[0]))
			if err != nil {
				return server.fault(err)
			}
			if asJSON {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", j.JSON)
				return err
			}
			return printJob(cmd.OutOrStdout(), j)
		},
	}
	serverFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the job's JSON object")
	return cmd
}

// printJob prints what is known of a job, a line each.
func printJob(w io.Writer, j *client.Job) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, clean(value))
		}
	}
	row("job", string(j.ID))
	row("kind", j.Kind)
	row("status", standing(j))
	row("attempt", fmt.Sprintf("%d of %d", j.Attempt, j.MaxAttempts))
	if j.QueuePosition != nil {
		row("ahead of it", fmt.Sprint(*j.QueuePosition))
	}
	if j.Progress != nil {
		row("progress", progressText(*j.Progress))
	}
	row("tags", strings.Join(j.Tags, ", "))
	row("created", date(j.CreatedAt))
	row("runs at", date(j.RunAt))
	row("started", date(j.StartedAt))
	row("finished", date(j.FinishedAt))
	row("kept until", date(j.ExpiresAt))
	if j.Error != nil {
		row("error", j.Error.Error())
	}
	if s := string(j.Result); s != "null" {
		row("result", s)
	}
	return t.Flush()
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

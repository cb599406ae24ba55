package main

import (
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

func retryCommand() *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "retry JOB",
		Short: "Submits the work of a job that is over once more",
		Long: `Submits the input and the options of a job that is over as a new job, and prints the
id of that. It begins at once, and a deadline is as far away as that of the first was.

--watch, --wait and --json are those of 'submit'.`,
		Example: `  millstream retry job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream retry --watch job_01k3z9a1b2c3d4e5f6g7h8j9k0`,
		Args: between(1, 1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			if s.options.Key == "" {
				s.options.Key = rand.Text()
			}
			j, err := server.Retry(cmd.Context(), job.ID(ids[0]), &client.RetryOptions{Key: s.options.Key})
			if err != nil {
				err = fmt.Errorf("%s: %w", ids[0], err)
			}
			return s.submitted(cmd, server, j, err)
		},
	}
	serverFlags(cmd)
	s.afterFlags(cmd)
	return cmd
}

// afterFlags are what may be done once the job is there.
func (s *submission) afterFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.options.Key, "once", "", "an idempotency `key`: the same again within 24 h is the same job (default: a new one, in case an answer is lost)")
	f.BoolVarP(&s.watch, "watch", "w", false, "follow the job to its end")
	f.Var(flagOf(&s.wait, someTime), "wait", "wait this long for the end, then end with 5; the job goes on")
	f.BoolVar(&s.json, "json", false, "print the job's JSON object, or with --watch each event's")
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/job"
)

func cancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel JOB...",
		Short: "Asks for jobs to end",
		Long: `Asks for jobs to end and prints what became of each: canceled at once if it was
queued, running until its worker has stopped, or over already. That is no error.`,
		Example: `  millstream cancel job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream cancel --reason 'wrong file' job_01k3z9a1b2c3d4e5f6g7h8j9k0`,
		Args: between(1, many),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			errs := make([]error, len(ids))
			for i, id := range ids {
				errs[i] = cancelOne(cmd, server, job.ID(id), reason)
				report(cmd.ErrOrStderr(), errs[i])
			}
			return said(worst(errs))
		},
	}
	serverFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` that says why, for whoever watches the job")
	return cmd
}

// cancelOne cancels one job and prints what became of it.
func cancelOne(cmd *cobra.Command, server *remote, id job.ID, reason string) error {
	j, err := server.Cancel(cmd.Context(), id, reason)
	if err != nil {
		return server.fault(fmt.Errorf("%s: %w", id, err))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", id, standing(j))
	return err
}

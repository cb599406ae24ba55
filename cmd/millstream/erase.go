package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/job"
)

func eraseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase JOB...",
		Short: "Removes jobs with all that is stored of them",
		Long: `Removes jobs, with their inputs, events and results. One that runs is told to stop, and
is not seen any more. There is no way back; 'cancel' stops a job and keeps it.`,
		Example: `  millstream erase job_01k3z9a1b2c3d4e5f6g7h8j9k0`,
		Args:    between(1, many),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			errs := make([]error, len(ids))
			for i, id := range ids {
				if err := server.Erase(cmd.Context(), job.ID(id)); err != nil {
					errs[i] = server.fault(fmt.Errorf("%s: %w", id, err))
				}
				report(cmd.ErrOrStderr(), errs[i])
			}
			return said(worst(errs))
		},
	}
	serverFlags(cmd)
	return cmd
}

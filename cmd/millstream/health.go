package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is shorter than that of a container's health check, so that the
// check has an answer and not a killed process.
const healthTimeout = 2 * time.Second

// listenVariable is that of the key listen: in a container it is set for both the
// server and its health check.
const listenVariable = "MILLSTREAM_LISTEN"

func healthCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Tells whether the server lives (exit code 0 or 1)",
		Long: `Asks the server whether it lives, or with --ready whether it takes jobs. Ends with
0 if so and 1 if not, within two seconds: made for the health check of a container.

Where neither --server nor MILLSTREAM_SERVER is given it asks this machine, at the
port of MILLSTREAM_LISTEN.`,
		Example: "  millstream health --ready && echo ready",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := health(cmd, ready); err != nil {
				return &exitError{exitFailed, err}
			}
			return nil
		},
	}
	serverFlags(cmd)
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes jobs, too")
	return cmd
}

func health(cmd *cobra.Command, ready bool) error {
	if a := os.Getenv(listenVariable); a != "" && os.Getenv(serverVariable) == "" && !cmd.Flags().Changed(serverFlag) {
		_ = cmd.Flags().Set(serverFlag, local(a))
	}
	server, err := connect(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
	defer cancel()
	ask := server.Live
	if ready {
		ask = server.Ready
	}
	if err := ask(ctx); err != nil {
		return inPlainWords(server.address, err)
	}
	return nil
}

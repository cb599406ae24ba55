package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/millstream"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Runs the server",
		Long: `Runs the server until it is told to stop. A first SIGTERM, SIGHUP or Ctrl-C lets streams and
work end in peace, within --drain; a second ends the process at once. What was
accepted is kept either way and goes on with the next start.

--kind makes a command or an HTTP address a kind of job. A command is split into words
as a shell does, but no shell runs. --route puts an API that is there already behind a
path: requests pass straight through, or become jobs with 'Prefer: respond-async'.
Without any of both there are samples to play with.

Every flag but --kind and --route has a variable, MILLSTREAM_MAX_STORE for --max-store, and most
have a key in the configuration file. A flag goes before a variable, that before the
file, and that before the default. 'millstream config check' shows what comes of it.`,
		Example: `  millstream serve                                        # with sample kinds
  millstream serve --kind 'wordcount=wc -w' --kind 'report=http://reports.internal/run'
  millstream serve --route '/legacy/*=http://legacy.internal:8080'
  millstream serve --config /etc/millstream.yaml --listen 0.0.0.0:8080
  MILLSTREAM_DATA=/var/lib/millstream millstream serve`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := load(cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), &s, cmd)
		},
	}
	settingsFlags(cmd.Flags())
	return cmd
}

// serve runs the server until ctx ends.
func serve(ctx context.Context, s *settings, cmd *cobra.Command) error {
	log, err := s.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	kinds, err := s.kinds()
	if err != nil {
		return err
	}
	samples := len(kinds) == 0
	if samples {
		kinds = millstream.Samples()
	}
	c, err := s.config(log)
	if err != nil {
		return err
	}
	if status := cmd.ErrOrStderr(); isTerminal(status) {
		c.Ready = func(url string) {
			banner{url, s.Data, s.redacted().NATS, kinds, samples, c.AdminKey != "" || !onLoopback(url)}.print(status)
		}
	}
	err = millstream.New(c, kinds...).Run(ctx)
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	log.Error("stopped", zap.Error(err))
	return &exitError{code: exitFailed} // it was said: what reads a log reads standard error
}

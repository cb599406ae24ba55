package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/standardwebhooks"
)

func webhookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "webhook", Short: "Shows webhook deliveries, sends them again, and receives them to try",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("usage: %s list|replay|listen|secret", cmd.CommandPath())
		},
	}
	cmd.AddCommand(webhookListCommand(), webhookReplayCommand(), webhookListenCommand(), webhookSecretCommand())
	return cmd
}

func webhookSecretCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "secret",
		Short: "Makes a secret to sign webhooks with",
		Long: `Prints a fresh secret. The server signs with it (webhooks.secret_file), and whoever
receives webhooks verifies with it. To rotate it, put the new one before the old one; once
all receivers know the new one, take the old one out.`,
		Example: `  millstream webhook secret > webhook.secret`,
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), standardwebhooks.NewSecret())
			return err
		},
	}
}

func webhookListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list JOB",
		Short: "Lists the webhook deliveries of a job",
		Long: `Lists the webhook deliveries of a job, each on a line: its id, the type of the event, its
state, the tries, when the next one is, or when it was settled, and why the last one was no
success. Dead ones have been given up; 'replay' sends them again. They are kept for a week,
also if the job is gone by then.`,
		Example: `  millstream webhook list job_01k3z9a1b2c3d4e5f6g7h8j9k0`,
		Args:    between(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			all, err := server.Deliveries(cmd.Context(), job.ID(args[0]))
			if err != nil {
				return server.fault(fmt.Errorf("%s: %w", args[0], err))
			}
			return deliveryTable(cmd.OutOrStdout(), all, isTerminal(cmd.OutOrStdout()))
		},
	}
	serverFlags(cmd)
	return cmd
}

func deliveryTable(w io.Writer, all []client.Delivery, named bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if named && len(all) > 0 {
		fmt.Fprintln(t, "DELIVERY\tTYPE\tSTATE\tTRIES\tNEXT OR SETTLED\tLAST")
	}
	for _, d := range all {
		at, last := d.NextAt, "-"
		if d.State != job.DeliveryPending {
			at = d.SettledAt
		}
		if d.Last != nil {
			last = cmp.Or(clean(d.Last.Error), fmt.Sprint(d.Last.Status))
		}
		shown := "now"
		if !time.Time(at).IsZero() {
			shown = at.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", d.ID, clean(string(d.Type)), d.State, d.Tries, shown, last)
	}
	return t.Flush()
}

func webhookReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay JOB [DELIVERY...]",
		Short: "Sends webhook deliveries of a job again",
		Long: `Sends deliveries of a job again, now, with all their tries before them, whatever had become
of them; without a DELIVERY all that are dead. The webhook-id is the same as before.`,
		Example: `  millstream webhook replay job_01k3z9a1b2c3d4e5f6g7h8j9k0
  millstream webhook replay job_01k3z9a1b2c3d4e5f6g7h8j9k0 4-18423-1`,
		Args: between(1, many),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			id, events := job.ID(args[0]), args[1:]
			if len(events) == 0 {
				if events, err = deadOf(cmd, server, id); err != nil {
					return server.fault(fmt.Errorf("%s: %w", id, err))
				}
			}
			errs := make([]error, len(events))
			for i, event := range events {
				errs[i] = replayOne(cmd, server, id, event)
				report(cmd.ErrOrStderr(), errs[i])
			}
			return said(worst(errs))
		},
	}
	serverFlags(cmd)
	return cmd
}

// deadOf returns the dead letters of a job.
func deadOf(cmd *cobra.Command, server *remote, id job.ID) (dead []string, err error) {
	all, err := server.Deliveries(cmd.Context(), id)
	for _, d := range all {
		if d.State == job.DeliveryDead {
			dead = append(dead, d.ID)
		}
	}
	if err == nil && len(dead) == 0 {
		err = &exitError{exitServer, errors.New("no delivery of it is dead; name one to send it again")}
	}
	return dead, err
}

func replayOne(cmd *cobra.Command, server *remote, id job.ID, event string) error {
	d, err := server.Replay(cmd.Context(), id, event)
	if err != nil {
		return server.fault(fmt.Errorf("%s %s: %w", id, event, err))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", id, d.ID, d.State)
	return err
}

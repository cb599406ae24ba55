package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
)

func kindsCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "kinds",
		Short: "Lists what can be submitted, and how much of it waits and runs",
		Long: `Lists the kinds of work that the server takes, by name: who does it, how many jobs wait,
how many run of how many that may at once, and what it is. On a terminal the columns have
names. With --json each kind is its JSON object, one a line: its limits and the schemas of
its input and result too.`,
		Example: `  millstream kinds
  millstream kinds --json | jq 'select(.name == "resize").input'`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			all, err := server.Kinds(cmd.Context())
			if err != nil {
				return server.fault(err)
			}
			if asJSON {
				return kindObjects(cmd.OutOrStdout(), all)
			}
			return kindTable(cmd.OutOrStdout(), all)
		},
	}
	serverFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each kind's JSON object, one a line")
	return cmd
}

func kindObjects(w io.Writer, all []*client.Kind) error {
	for _, k := range all {
		if _, err := fmt.Fprintf(w, "%s\n", k.JSON); err != nil {
			return err
		}
	}
	return nil
}

func kindTable(w io.Writer, all []*client.Kind) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if isTerminal(w) && len(all) > 0 {
		fmt.Fprintln(t, "KIND\tWORKER\tQUEUED\tRUNNING\tDESCRIPTION")
	}
	for _, k := range all {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d/%d\t%s\n", clean(k.Name), clean(k.Worker), k.Queue.Queued, k.Queue.Running, k.Limits.Concurrency,
			cmp.Or(clean(k.Description), "-"))
	}
	return t.Flush()
}

package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	encoder "go.yaml.in/yaml/v3"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Works with the configuration of a server",
		RunE: func(cmd *cobra.Command, _ []string) error { // a mistyped 'check' must not pass for one
			return fmt.Errorf("usage: %s check [FILE]", cmd.CommandPath())
		},
	}
	cmd.AddCommand(configCheckCommand())
	return cmd
}

func configCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Prints the configuration that 'serve' would run with, or what is wrong with it",
		Long: `Reads the configuration as 'serve' does, from the same flags, variables and file,
and prints every key with its value, as a file that says the same. Ends with 2 and a
line for each mistake if there is one. Secrets in it are printed too.`,
		Example: `  millstream config check
  millstream config check deploy/millstream.yaml
  MILLSTREAM_LISTEN=:9090 millstream config check --drain 1m`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				_ = cmd.Flags().Set(configFlag, args[0])
			}
			s, err := load(cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			text, err := encoder.Marshal(s.redacted())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	settingsFlags(cmd.Flags())
	return cmd
}

// redacted returns the settings as they may be shown: what is printed ends up in tickets.
func (s *settings) redacted() *settings {
	shown := *s
	if s.Key != "" {
		shown.Key = hidden
	}
	shown.Webhooks = s.Webhooks.redacted()
	servers := strings.Split(s.NATS, ",")
	for i, server := range servers {
		if u := natsServer(server); u != nil && u.User != nil {
			u.User = url.User(hidden)
			servers[i] = u.String()
		}
	}
	shown.NATS = strings.Join(servers, ",")
	return &shown
}

// hidden stands for a secret.
const hidden = "REDACTED"

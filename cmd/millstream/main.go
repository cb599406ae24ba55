// Command millstream serves slow work over a streaming HTTP API, and submits,
// watches and cancels jobs from the command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

func run() int {
	ctx := untilSignal()
	out := &stdout{file: os.Stdout}
	cmd := root()
	cmd.SetOut(out)
	cmd, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		err = out.err // of what does not look, such as --help
	}
	report(os.Stderr, err)
	var said *exitError
	if err != nil && !errors.As(err, &said) && exitCode(err) == exitUsage {
		fmt.Fprintf(os.Stderr, "See '%s --help'.\n", cmd.CommandPath())
	}
	return exitCode(err)
}

// untilSignal returns a context that ends with the first signal to stop; a second one
// ends the process at once, as if nobody had listened.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	stops := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup asks to outlive the terminal
		stops = append(stops, syscall.SIGHUP)
	}
	got := make(chan os.Signal, 2)
	signal.Notify(got, stops...)
	go func() {
		<-got
		cancel()
		second := <-got
		signal.Reset(stops...)
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Signal(second)
		}
	}()
	return ctx
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "millstream",
		Short: "Slow work behind a streaming HTTP API",
		Long: `Millstream gives slow work a streaming HTTP API: submit a job, get an answer at
once, and follow its progress, output and result live. No event is ever lost.

` + exitHelp,
		Example: `  millstream serve                                        # with sample kinds, on http://127.0.0.1:8080
  millstream serve --kind 'wordcount=wc -w'               # a command becomes a kind of job
  echo slow is smooth | millstream submit wordcount --wait 10s
  millstream watch job_01k3z9a1b2c3d4e5f6g7h8j9k0`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(serveCommand(), submitCommand(), watchCommand(), tailCommand(), jobCommand(), listCommand(), kindsCommand(), cancelCommand(), retryCommand(), eraseCommand(), workerCommand(), webhookCommand(), configCommand(), healthCommand(),
		tortureCommand(), verifyCommand(), backupCommand(), restoreCommand(), versionCommand())
	return cmd
}

// many is more arguments than there can be.
const many = math.MaxInt

// between accepts as many arguments as that; the error says which ones.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

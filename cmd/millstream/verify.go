package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/millstream"
)

func verifyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Looks through the store of a server that is stopped",
		Long: `Reads all of an embedded store and changes nothing: each record by its seal (the
checksum that the embedded server writes behind it), each message that is kept by its
own, each job by the sequence of its events, and whether the parts and results that jobs
name are there. Prints a line for each thing that is wrong: where, what, which job if that
can be told, and what the server makes of it at its next start. What was deleted, replaced
or has expired is nobody's loss.

Ends with 0 if the store is sound, 6 if it is damaged, and 1 if it could not be looked at:
there is none, or a server has it open. Stop that, or verify a copy.

With --json each finding is an object on a line ("type":"finding"), and so is the sum
at the end ("type":"summary").`,
		Example: `  millstream verify
  millstream verify --data /var/lib/millstream --json
  millstream verify --config /etc/millstream.yaml && millstream serve --config /etc/millstream.yaml`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := storeDir(cmd)
			if err != nil {
				return err
			}
			return verify(cmd, dir, asJSON)
		},
	}
	dataFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON objects, one a line")
	return cmd
}

// dataFlags defines the flags that say where a store is.
func dataFlags(cmd *cobra.Command) {
	cmd.Flags().Var(newText(configFile, "file"), configFlag, "configuration file that says where it is, as for 'serve'")
	cmd.Flags().Var(newText(millstream.Defaults.Data, "dir"), dataFlag, "directory of the store, whatever a configuration says")
}

const dataFlag = "data"

// storeDir returns the directory of the store. Given as a flag, no configuration has to be
// right for it.
func storeDir(cmd *cobra.Command) (string, error) {
	dir := cmd.Flag(dataFlag).Value.String()
	if !cmd.Flags().Changed(dataFlag) {
		s, err := load(cmd.Flags(), os.Environ())
		if err != nil {
			return "", err
		}
		if s.NATS != "" {
			return "", errors.New("the store is on a NATS server: this is for the embedded one")
		}
		dir = s.Data
	}
	if dir == millstream.Memory {
		return "", errors.New("a store in memory keeps nothing: --data says where one is")
	}
	return dir, nil
}

// verify prints what is wrong with the store in dir.
func verify(cmd *cobra.Command, dir string, asJSON bool) error {
	bar := newMeter(cmd.ErrOrStderr())
	out := bar.over(cmd.OutOrStdout())
	say := sayFinding
	if asJSON {
		say = func(w io.Writer, f broker.Finding) error { return printJSON(w, findingLine{"finding", f}) }
	}
	var unsaid error
	sum, err := broker.Verify(cmd.Context(), dir, func(f broker.Finding) { unsaid = errors.Join(unsaid, say(out, f)) }, bar.set)
	bar.close()
	if err = errors.Join(ofStore(err), unsaid); err != nil {
		return err
	}
	if err := saySum(cmd.OutOrStdout(), dir, sum, asJSON); err != nil {
		return err
	}
	if sum.Findings > 0 {
		return &exitError{code: exitDamaged}
	}
	return nil
}

// ofStore returns the error of a store or a backup that could not be looked at, or written:
// it is no mistake in how the program was called, also if there is none.
func ofStore(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitFailed, err}
}

// What --json prints.
type (
	findingLine struct {
		Type string `json:"type"`
		broker.Finding
	}
	summaryLine struct {
		Type string `json:"type"`
		broker.Checked
	}
)

func printJSON(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// sayFinding prints a finding in a line for people.
func sayFinding(w io.Writer, f broker.Finding) error {
	where := []string{f.Stream}
	if f.Block > 0 {
		where = append(where, fmt.Sprintf("%d.blk at %d", f.Block, f.Offset))
	}
	if f.Job != "" {
		where = append(where, string(f.Job))
	}
	_, err := fmt.Fprintf(w, "%s: %s; %s\n", strings.Join(where, " "), clean(f.What), f.Then)
	return err
}

func saySum(w io.Writer, dir string, sum broker.Checked, asJSON bool) error {
	if asJSON {
		return printJSON(w, summaryLine{"summary", sum})
	}
	verdict := "sound"
	if sum.Findings > 0 {
		verdict = fmt.Sprintf("damaged, findings: %d", sum.Findings)
	}
	_, err := fmt.Fprintf(w, "%s: %d streams, %d messages in %d bytes, jobs: %d live, %d finished: %s\n",
		clean(dir), sum.Streams, sum.Messages, sum.Bytes, sum.Live, sum.Finished, verdict)
	return err
}

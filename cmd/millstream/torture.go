package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/millstream/millstream/pkg/torture"
)

// defaultTorture is long enough for each fault to happen a few times.
const defaultTorture = time.Minute

// toldEvery is how often it is told how far a torture is, where there is no terminal.
const toldEvery = 5 * time.Second

// tortured is what the command line says about a torture.
type tortured struct {
	torture.Options
	keep, json bool
}

func tortureCommand() *cobra.Command {
	var t tortured
	cmd := &cobra.Command{
		Use:   "torture",
		Short: "Proves the promises: kills a server again and again, and looks what was lost",
		Long: `Starts a server of its own on a free port of loopback, with a store of its own, and drives it
with clients on every transport, while it is killed, stopped and cut off, and its work with
it. Then it judges by what the clients wrote down, and by nothing else: what was lost,
doubled, reordered, stuck or late. Ends with 0 if there is no such thing.

What is done follows from --seed. The diaries are in a directory of the system's for temporary
files, which is removed at the end, unless something is wrong or --keep is given.`,
		Example: `  millstream torture
  millstream torture --seed 7 --duration 10m --keep
  millstream torture --binary ./millstream-of-yesterday --json`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("seed") {
				t.Seed = rand.Uint64N(1 << 32) // short enough to be typed
			}
			return t.run(cmd)
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&t.Seed, "seed", 0, "the number `n` that everything random follows from (default: another one each time)")
	t.Duration = defaultTorture
	f.Var(flagOf(&t.Duration, someTime), "duration", "how long the server is tortured; what it has accepted is over some seconds later, or in three minutes at most (default 1m)")
	f.BoolVar(&t.json, "json", false, "print the verdict as a JSON object")
	f.BoolVar(&t.keep, "keep", false, "keep the diaries, the store and the log also if all is well")
	f.StringVar(&t.Binary, "binary", "", "the millstream `file` to torture (default: this one)")
	return cmd
}

func (t *tortured) run(cmd *cobra.Command) (err error) {
	if t.Binary == "" {
		if t.Binary, err = os.Executable(); err != nil {
			return &exitError{exitFailed, err}
		}
	}
	if _, err := exec.LookPath(t.Binary); err != nil {
		return fmt.Errorf("--binary: %w", err)
	}
	if t.Dir, err = os.MkdirTemp("", "millstream-torture-"); err != nil {
		return &exitError{exitFailed, err}
	}
	status := cmd.ErrOrStderr()
	fmt.Fprintf(status, "seed %d, %s, in %s\n", t.Seed, t.Duration, t.Dir)
	tell, end := teller(status, t.Duration)
	t.Tell = tell
	v, err := torture.Run(cmd.Context(), t.Options)
	end()
	if err != nil {
		if cmd.Context().Err() != nil {
			_ = os.RemoveAll(t.Dir)
			return cmd.Context().Err()
		}
		return &exitError{exitFailed, fmt.Errorf("no verdict: %w (see %s)", err, t.Dir)}
	}
	return t.report(cmd, v)
}

// report prints the verdict, and leaves the diaries to who has to look into them.
func (t *tortured) report(cmd *cobra.Command, v *torture.Verdict) error {
	out, status := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if t.json {
		text, err := json.Marshal(v)
		if err != nil {
			return &exitError{exitFailed, err}
		}
		fmt.Fprintf(out, "%s\n", text)
	} else {
		fmt.Fprint(out, v)
	}
	if t.keep || !v.Sound() {
		fmt.Fprintf(status, "the diaries, the store and the log are in %s\n", t.Dir)
	} else if err := os.RemoveAll(t.Dir); err != nil {
		return &exitError{exitFailed, err}
	}
	if !v.Sound() {
		return &exitError{code: exitFailed}
	}
	return nil
}

// teller returns what shows how far a torture is: a bar on a terminal, else a line now
// and then.
func teller(status io.Writer, total time.Duration) (tell func(torture.Progress), end func()) {
	if isTerminal(status) {
		return tortureBar(status, total)
	}
	last := time.Duration(0)
	return func(p torture.Progress) {
		if p.Elapsed-last >= toldEvery {
			last = p.Elapsed
			fmt.Fprintln(status, tortureText(p))
		}
	}, func() {}
}

// tortureBar shows a bar, which is full when the server is left alone.
func tortureBar(terminal io.Writer, total time.Duration) (tell func(torture.Progress), end func()) {
	all := mpb.New(mpb.WithOutput(terminal))
	b := &bar{text: "starting"}
	b.Bar = all.AddBar(0, mpb.BarWidth(barWidth), mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.label() })))
	b.SetTotal(barFull, false)
	return func(p torture.Progress) {
			b.say(tortureText(p))
			b.SetCurrent(min(barFull-1, int64(barFull*p.Elapsed/total)))
		}, func() {
			b.Abort(true)
			all.Wait()
		}
}

func tortureText(p torture.Progress) string {
	return fmt.Sprintf("%4s %s: %d jobs accepted, %d events read, %d faults",
		p.Elapsed.Truncate(time.Second), p.Doing, p.Accepted, p.Events, p.Faults)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/worker"
)

// puller is what the command line says about a worker.
type puller struct {
	server *remote
	kinds  []string
	name   string
	many   int
	exec   worker.Exec
	stdout string
	say    func(format string, args ...any)
}

func workerCommand() *cobra.Command {
	p := puller{many: 1}
	cmd := &cobra.Command{
		Use:   "worker --kind KIND -- COMMAND [ARGUMENT...]",
		Short: "Takes jobs from a server and runs a command for each",
		Long: `Takes jobs of kinds that the server has configured with pull, on this machine or
another, and runs a command for each, as the server would run one itself: the input is on
standard input, what it writes is the output and the result, standard error is the job's
log, and on file descriptor 3 it may write events. See 'exec' in the configuration.

It goes on until it is told to stop: then the command gets SIGTERM, and the job goes back
to the server, which loses no attempt by that. A server that is away is waited for while
the command goes on.`,
		Example: `  millstream worker --kind resize -- ./resize.sh
  millstream worker --kind resize --concurrency 4 --server https://jobs.example -- convert - -resize 50% -`,
		Args: between(1, many),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if p.server, err = connect(cmd); err != nil {
				return err
			}
			if err := p.check(args); err != nil {
				return err
			}
			p.say = func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
			}
			return p.run(cmd.Context())
		},
	}
	serverFlags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&p.kinds, "kind", nil, "a `kind` of jobs to take; may be repeated")
	f.StringVar(&p.name, "name", "", "the `label` of this worker that others see (default: the host's name)")
	f.Var(flagOf(&p.many, atLeastOnce), "concurrency", "jobs at once (default 1)")
	f.StringVar(&p.stdout, "stdout", string(worker.StdoutLines), "`what` standard output is: lines, result or events")
	f.StringVar(&p.exec.ResultType, "result-type", "", "media `type` of the result")
	f.StringVar(&p.exec.Dir, "dir", "", "working `directory` of the command (default: a new one for each job)")
	f.Var(flagOf(&p.exec.Grace, someTime), "grace", "from SIGTERM to SIGKILL (default 10s)")
	return cmd
}

// check completes what was said.
func (p *puller) check(args []string) error {
	p.exec.Command, p.exec.Stdout = args, worker.Stdout(p.stdout)
	switch p.exec.Stdout {
	case worker.StdoutLines, worker.StdoutResult, worker.StdoutEvents:
	default:
		return fmt.Errorf("--stdout %s: must be lines, result or events", p.stdout)
	}
	if len(p.kinds) == 0 {
		return errors.New("--kind: which jobs is it to take?")
	}
	if err := p.exec.Missing(); err != nil {
		return err // else it would take all there is, and fail it
	}
	host, _ := os.Hostname()
	p.name = cmp.Or(p.name, host, "worker")
	return nil
}

// leaseWait is how long a request for work is held: shorter than the patience of any
// proxy.
const leaseWait = 25 * time.Second

// run takes jobs and works on them until ctx ends, or the server refuses.
func (p *puller) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for range p.many {
		g.Go(func() error { return p.serve(ctx) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // it was told to stop
	}
	return p.server.fault(err)
}

// serve works on one job after the other.
func (p *puller) serve(ctx context.Context) error {
	o := &client.LeaseOptions{Kinds: p.kinds, Worker: p.name, Wait: leaseWait}
	for {
		var leases []*client.Lease
		err := p.insist(ctx, func() (err error) {
			leases, err = p.server.Lease(ctx, o)
			return err
		})
		if err != nil {
			return err
		}
		for _, l := range leases {
			p.work(ctx, l)
		}
	}
}

// The pause between two tries to reach a server that is away.
const (
	firstPause = 500 * time.Millisecond // what a restart takes
	longPause  = 10 * time.Second       // a third of a lease
)

// insist makes a request until it succeeds, is refused, or ctx ends.
func (p *puller) insist(ctx context.Context, request func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := request()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || !p.server.Passing(err) {
			return err
		}
		if pause == firstPause {
			p.say("%v: trying again", inPlainWords(p.server.address, err))
		}
		var refused *job.Problem
		if errors.As(err, &refused) {
			pause = max(pause, min(refused.RetryAfter, longPause))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// work works on one job and says what became of it.
func (p *puller) work(ctx context.Context, l *client.Lease) {
	p.say("%s begins, attempt %d of %d", l.Job.ID, l.Job.Attempt, l.Job.MaxAttempts)
	stopping := ctx
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r := &reporter{puller: p, lease: l, end: end}
	alive, ended := context.WithCancel(context.WithoutCancel(ctx)) // a command that is told to end may take longer than a lease
	beats := make(chan struct{})
	go func() { defer close(beats); r.beat(alive) }()
	out, err := r.runCommand(ctx)
	last := lastWord(stopping.Err() != nil, out, err)
	ended()
	<-beats
	p.say("%s %s", l.Job.ID, r.finish(last))
}

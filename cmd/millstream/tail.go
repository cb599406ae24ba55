package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

// tailing is what the command line says about a tail.
type tailing struct {
	selection client.Selection
	after     string
	json      bool
}

func tailCommand() *cobra.Command {
	var t tailing
	cmd := &cobra.Command{
		Use:   "tail [JOB...]",
		Short: "Shows what happens to many jobs, as it happens",
		Long: `Shows the events of many jobs on one connection, in the order in which they happened: of
all jobs, or of those that are named, or of a kind, with a tag, or in a batch. What each job
is now comes first, a line each; --after leaves that out and goes on from an event.

If jobs are named, it ends when all of them are over; otherwise it does not. Lost
connections are taken up again where they were lost. watch shows more of few jobs.`,
		Example: `  millstream tail
  millstream tail --kind resize --tag nightly
  millstream tail --json | jq 'select(.type == "job.failed")'
  millstream tail --batch batch_01k3z9a1b2c3d4e5f6g7h8j9k0 --after 7-18423-28385723029`,
		Args: between(0, many),
		RunE: func(cmd *cobra.Command, ids []string) error {
			server, err := connect(cmd)
			if err != nil {
				return err
			}
			for _, id := range ids {
				if !job.ValidID(id) {
					return fmt.Errorf("%q cannot be the id of a job", id)
				}
				t.selection.Jobs = append(t.selection.Jobs, job.ID(id))
			}
			return t.run(cmd, server, cmd.OutOrStdout())
		},
	}
	serverFlags(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&t.selection.Kinds, "kind", nil, "a `kind`; may be repeated: any of these")
	f.StringArrayVar(&t.selection.Tags, "tag", nil, "a `tag`; may be repeated: all of these")
	f.StringVar(&t.selection.Batch, "batch", "", "the `id` of the batch they were submitted with")
	f.StringVar(&t.after, "after", "", "begin behind the event with this `id`, whichever job's it is")
	f.BoolVar(&t.json, "json", false, "write each event as its JSON object, one a line")
	return cmd
}

func (t *tailing) run(cmd *cobra.Command, server *remote, out io.Writer) error {
	server.screen = &tailLines{lines{w: out}}
	if t.json {
		server.screen = &jsonLines{w: out}
	}
	for e, err := range server.EventsOf(cmd.Context(), t.selection, t.after) {
		switch {
		case cmd.Context().Err() != nil:
			return nil // it was stopped: that is its end
		case err != nil:
			return server.fault(err)
		case e.Job == "" && !t.json: // there are no jobs yet
			continue
		}
		if err := server.screen.show(&e); err != nil {
			return err
		}
	}
	return nil
}

// tailLines shows each event of many jobs in a line for people.
type tailLines struct{ lines }

func (s *tailLines) show(e *client.Event) error {
	if e.Type == job.StreamReset {
		return s.line(timeOf(e), e.Job, clean(snapshotText(e)))
	}
	return s.lines.show(e)
}

// snapshotText says what a job is, to whom it is told before its events.
func snapshotText(e *client.Event) string {
	d := dataOf[struct {
		Reason    string
		Truncated bool
		Job       *struct {
			Kind, Status string
			Attempt      int
		}
	}](e)
	if d.Job == nil {
		return streamResetText(e)
	}
	text := fmt.Sprintf("is %s, kind %s", d.Job.Status, d.Job.Kind)
	if d.Reason != client.Latest {
		text += "; the events start over"
	}
	if d.Truncated {
		text += "; there are more jobs than are shown"
	}
	return text
}

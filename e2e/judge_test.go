package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A judge that finds nothing is worth what it would have found.
func TestJudge(t *testing.T) {
	t.Parallel()
	e := func(seq uint64, kind string) event {
		id := fmt.Sprintf("%d-9-1", seq)
		return event{ID: id, Seq: seq, Type: kind, Job: "a", raw: id + kind}
	}
	queued, running, done := e(1, "job.queued"), e(2, "job.running"), e(3, "job.succeeded")
	of := func(events ...event) record { return record{job: "a", events: events, over: true} }
	whole := of(queued, running, done)
	foreign, changed := running, running
	foreign.Job, changed.raw = "b", "2-9-1 other"

	for _, tt := range []struct {
		name    string
		records []record
		want    string
	}{
		{"all well", []record{whole, whole}, ""},
		{"lost job", nil, "accepted and is gone"},
		{"lost first", []record{of(running, done)}, "seq 2 where 1 belongs"},
		{"lost middle", []record{of(queued, done)}, "seq 3 where 2 belongs"},
		{"lost end", []record{of(queued, running)}, "no end after 2 events"},
		{"doubled", []record{of(queued, running, running, done)}, "seq 2 where 3 belongs"},
		{"out of order", []record{of(running, queued, done)}, "seq 2 where 1 belongs"},
		{"two ends", []record{of(queued, running, done, e(4, "job.failed"))}, "1 events behind job.succeeded"},
		{"after the end", []record{of(queued, running, done, e(4, "job.log"))}, "1 events behind job.succeeded"},
		{"foreign event", []record{of(queued, foreign, done)}, "event 2-9-1 of b"},
		{"never told", []record{{job: "a", events: whole.events}}, "no end after 3 events"},
		{"two truths", []record{whole, of(queued, changed, done)}, "not the same"},
		{"id used twice", []record{whole, {job: "b", events: []event{queued, done}, over: true}}, "id 1-9-1 is used in a and in b"},
		{"surprise", []record{{job: "a", events: whole.events, over: true, surprises: []string{"503"}}}, "503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			complaints := judge([]string{"a"}, tt.records)
			if tt.want == "" {
				require.Empty(t, complaints)
				return
			}
			require.Contains(t, strings.Join(complaints, "\n"), tt.want)
		})
	}
}

package e2e

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// steps is a command that says n events of its own.
func steps(n string) object {
	return object{"exec": object{
		"command": []string{"sh", "-c", `seq 1 ` + n + ` | sed 's/.*/{"type":"step","data":&}/'`}, "stdout": "events",
	}}
}

// A reader whose connection is cut behind every single event, and who comes back on another
// transport each time, reads a thousand events, each of them once.
func TestAnotherTransportAfterEveryEvent(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"steps": steps("997")}})
	for _, over := range []bool{false, true} { // while it runs, and when it is over
		j := s.submit("steps", nil)
		if over {
			s.until(j.ID, "succeeded")
		}
		r := &reader{record: record{job: j.ID}, base: s.base, hang: func() bool { return true }, seen: new(atomic.Int64)}
		ways := slices.Sorted(maps.Keys(transports))
		ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
		for n := 0; !r.over && len(r.surprises) == 0 && ctx.Err() == nil; n++ {
			_ = transports[ways[n%len(ways)]](r, ctx) // what it got it wrote down
		}
		cancel()
		require.Empty(t, judge([]string{j.ID}, []record{r.record}))
		require.Len(t, r.events, 1000)
	}
}

// Who was there before the job began, came while it ran, or comes when it is over, has read
// the same.
func TestReadersOfAllTimes(t *testing.T) {
	t.Parallel()
	s := start(t, object{"kinds": object{"steps": steps("2000")}})
	j := s.accepted(s.ask("POST", "/v1/kinds/steps/jobs?delay=300ms", nil))
	seen := new(atomic.Int64)
	var readers []*reader
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	come := func() {
		for _, name := range slices.Sorted(maps.Keys(transports)) {
			r := &reader{record: record{job: j.ID}, base: s.base, way: transports[name], hang: func() bool { return false }, seen: seen}
			readers = append(readers, r)
			all.Go(func() { r.follow(ctx) })
		}
	}
	come()
	eventually(t, "it runs", func() bool { return seen.Load() > 100 })
	come()
	s.until(j.ID, "succeeded")
	come()
	all.Wait()
	var records []record
	for _, r := range readers {
		records = append(records, r.record)
		require.Len(t, r.events, 2003)
	}
	require.Empty(t, judge([]string{j.ID}, records))
}

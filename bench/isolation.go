package main

import (
	"encoding/json"
	"fmt"

	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
)

// beside is a load that small jobs have beside them, and what they feel of it.
type beside struct {
	name           string
	heavy          bool
	rate, p50, p99 series
}

// isolation measures small jobs of one kind, alone and beside a flood of another.
func isolation(b *bench) error {
	s, err := b.mill()
	if err != nil {
		return err
	}
	clients, err := b.process(loadRole)
	if err != nil {
		return err
	}
	sides := []*beside{{name: "alone"}, {name: fmt.Sprintf("beside %s heavy ones", commas(fmt.Sprint(mill.HeavyQueue))), heavy: true}}
	for round := range b.size.rounds + 1 {
		for _, side := range sides {
			if err := side.take(b.size, s, clients, round > 0); err != nil {
				return fmt.Errorf("%s: %w", side.name, err)
			}
		}
	}
	b.report.isolation(sides)
	return nil
}

// take runs small jobs for a while, one at a time. The first time is to get warm.
func (x *beside) take(n size, s *server, clients *proc.Process, counts bool) error {
	if _, err := quiet(s.Process); err != nil {
		return err
	}
	if x.heavy {
		if err := flood(n, s, clients); err != nil {
			return err
		}
	}
	var r load.Result
	if err := clients.Call("Run", smallJobs(s, n), &r); err != nil {
		return err
	}
	if counts {
		x.rate.add(float64(r.Answers) / r.Elapsed.Seconds())
		x.p50.add(r.P50.Seconds())
		x.p99.add(r.P99.Seconds())
	}
	if x.heavy {
		return ebb(s)
	}
	return nil
}

// smallJobs are submitted by one client: each is waited for to its end before the next is submitted.
func smallJobs(s *server, n size) load.Config {
	return load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(mill.Instant), Wait: true, Clients: 1, For: n.block}
}

// flood fills the queue of the heavy kind; its workers are busy from then on.
func flood(n size, s *server, clients *proc.Process) error {
	if err := s.Call("Calm", false, &struct{}{}); err != nil {
		return err
	}
	c := load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(mill.Heavy), Clients: n.clients, Count: mill.HeavyQueue}
	return clients.Call("Run", c, new(load.Result))
}

// ebb ends the heavy jobs, of which most must still wait: there was a flood to the end.
func ebb(s *server) error {
	queued, _, err := s.depth(mill.Heavy)
	if err != nil {
		return err
	}
	if queued < mill.HeavyQueue/2 {
		return fmt.Errorf("of the flood only %d jobs waited at the end", queued)
	}
	if err := s.Call("Calm", true, &struct{}{}); err != nil {
		return err
	}
	return eventually(func() (bool, error) {
		queued, running, err := s.depth(mill.Heavy)
		return queued+running == 0, err
	})
}

// depth returns how many jobs of a kind wait and run.
func (s *server) depth(kind string) (queued, running int, err error) {
	body, err := get(s.url + "/v1/kinds/" + kind)
	if err != nil {
		return 0, 0, err
	}
	var k struct{ Queue struct{ Queued, Running int } }
	err = json.Unmarshal(body, &k)
	return k.Queue.Queued, k.Queue.Running, err
}

func (r *report) isolation(sides []*beside) {
	t := r.table("Isolation", fmt.Sprintf("A job of kind %s, `POST /v1/jobs` with `Prefer: wait`, to the answer that has its end; one at a time. The heavy jobs are of another kind: %d run, "+
		"each writes a line of 1 KiB every millisecond for %s, the others wait.", mill.Instant, mill.HeavyAtOnce, mill.HeavyTime), "small jobs", "a second", "p50", "p99")
	for _, s := range sides {
		t.row(s.name, s.rate.as(count), s.p50.as(seconds), s.p99.as(seconds))
	}
	alone, crowded := sides[0], sides[1]
	r.ratio("p50 of a small job "+crowded.name+" / alone", crowded.p50.over(alone.p50), "")
	r.ratio("p99 of a small job "+crowded.name+" / alone", crowded.p99.over(alone.p99), "")
}

package main

import (
	"fmt"

	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
)

// submitted is a server that takes jobs, and how fast it did.
type submitted struct {
	*server
	kind                string
	rate, cpu, p50, p99 series
}

// submit measures POST /v1/jobs against a handler that stores nothing.
func submit(b *bench) error {
	bare, err := b.floor("a Gin handler that stores nothing")
	if err != nil {
		return err
	}
	sides := []*submitted{{server: bare, kind: mill.Wait}}
	for _, kind := range []string{mill.Wait, mill.Instant} {
		s, err := b.mill()
		if err != nil {
			return err
		}
		s.name = "Millstream, kind " + kind
		sides = append(sides, &submitted{server: s, kind: kind})
	}
	safe, err := b.powerSafe()
	if err != nil {
		return err
	}
	sides = append(sides, &submitted{server: safe, kind: mill.Wait})
	clients, err := b.process(loadRole)
	if err != nil {
		return err
	}
	for round := range b.size.rounds + 1 {
		for _, s := range sides {
			if err := s.take(b.size, clients, round > 0); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	b.report.submits(sides, b.size.clients)
	return nil
}

// take lets the clients submit for a while. The first time is to get warm.
func (s *submitted) take(n size, clients *proc.Process, counts bool) error {
	before, err := quiet(s.Process)
	if err != nil {
		return err
	}
	c := load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(s.kind), Clients: n.clients, For: n.block}
	var r load.Result
	if err := clients.Call("Run", c, &r); err != nil {
		return err
	}
	after, err := quiet(s.Process)
	if counts {
		s.rate.add(float64(r.Answers) / r.Elapsed.Seconds())
		s.cpu.add((after - before).Seconds() / float64(r.Answers))
		s.p50.add(r.P50.Seconds())
		s.p99.add(r.P99.Seconds())
	}
	return err
}

func (r *report) submits(sides []*submitted, clients int) {
	t := r.table("Submit", fmt.Sprintf("`POST /v1/jobs`, %d clients in a process of their own, each with one connection. "+
		"The jobs of kind %s and of the power-safe server wait, those of kind %s are run and archived meanwhile. CPU is the server's, until it is idle again.",
		clients, mill.Wait, mill.Instant), "server", "answers/s", "CPU an answer", "p50", "p99")
	for _, s := range sides {
		t.row(s.name, s.rate.as(count), s.cpu.as(seconds), s.p50.as(seconds), s.p99.as(seconds))
	}
	bare, plain, safe := sides[0], sides[1], sides[3]
	for _, s := range sides[1:3] {
		aim := ""
		if s.kind == mill.Wait {
			aim = "≥ 0.60×"
		}
		r.ratio("answers/s to submits of kind "+s.kind+" / "+bare.name, s.rate.over(bare.rate), aim)
	}
	r.ratio("answers/s to submits, power-safe / kill-safe", safe.rate.over(plain.rate), "≥ 0.60×")
}

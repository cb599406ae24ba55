package main

import (
	"fmt"
	"time"

	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
)

// start measures how long a start takes, until the server says that it is ready.
func start(b *bench) error {
	t := b.report.table("Start", "From the start of the process until `/readyz` answers 200.", "store", "ready after")
	var empty, loaded series
	for range b.size.rounds {
		dir, err := b.store()
		if err != nil {
			return err
		}
		s, err := b.ready(dir, &empty)
		if err != nil {
			return err
		}
		if err := b.stop(s.Process, (*proc.Process).Stop); err != nil {
			return err
		}
	}
	t.row("empty", empty.as(seconds))
	dir, err := b.store()
	if err != nil {
		return err
	}
	s, err := b.millOn(dir)
	if err != nil {
		return err
	}
	if err := b.fill(s); err != nil {
		return err
	}
	for range b.size.rounds {
		if err := b.stop(s.Process, (*proc.Process).Kill); err != nil {
			return err
		}
		if s, err = b.ready(dir, &loaded); err != nil {
			return err
		}
		if err := b.complete(s); err != nil {
			return err
		}
	}
	n := commas(fmt.Sprint(b.size.stored))
	t.row(fmt.Sprintf("%s jobs queued and %s over, after `kill -9`", n, n), loaded.as(seconds))
	return startWithEvents(b, t)
}

// jobsWithEvents is how many jobs have the events of startWithEvents between them.
const jobsWithEvents = 100

// startWithEvents measures a start after kill -9 over the events of jobs that run.
func startWithEvents(b *bench, t *table) error {
	dir, err := b.store()
	if err != nil {
		return err
	}
	s, err := b.millOn(dir)
	if err != nil {
		return err
	}
	if _, err := b.steer(s, jobsWithEvents); err != nil {
		return err
	}
	each := max(1, 10*b.size.stored/jobsWithEvents)
	if err := s.Call("Publish", each, &struct{}{}); err != nil {
		return err
	}
	var took series
	for range b.size.rounds {
		if err := b.stop(s.Process, (*proc.Process).Kill); err != nil {
			return err
		}
		if s, err = b.ready(dir, &took); err != nil {
			return err
		}
	}
	t.row(fmt.Sprintf("%s events of %d jobs that ran, after `kill -9`", commas(fmt.Sprint(each*jobsWithEvents)), jobsWithEvents), took.as(seconds))
	return nil
}

// ready starts a Millstream and takes the time.
func (b *bench) ready(dir string, took *series) (*server, error) {
	begin := time.Now()
	s, err := b.millOn(dir)
	if err != nil {
		return nil, err
	}
	if _, err := get(s.url + "/readyz"); err != nil {
		return nil, err
	}
	took.add(time.Since(begin).Seconds())
	return s, nil
}

// fill stores jobs that wait and jobs that are over.
func (b *bench) fill(s *server) error {
	p, err := b.process(loadRole)
	if err != nil {
		return err
	}
	for _, kind := range []string{mill.Instant, mill.Wait} {
		c := load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(kind), Clients: b.size.clients, Count: b.size.stored}
		if err := p.Call("Run", c, new(load.Result)); err != nil {
			return err
		}
		if _, err := quiet(s.Process); err != nil {
			return err
		}
	}
	return b.complete(s)
}

// complete fails unless all jobs are there that should be.
func (b *bench) complete(s *server) error {
	for kind, want := range map[string]int{mill.Wait: b.size.stored, mill.Instant: 0} {
		queued, running, err := s.depth(kind)
		if err != nil {
			return err
		}
		if got := queued + running; got != want {
			return fmt.Errorf("%d jobs of kind %s in place of %d", got, kind, want)
		}
	}
	return nil
}

package main

import (
	"bytes"
	"errors"
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
	return errors.Join(startWithFinished(b, t), startWithEvents(b, t))
}

// startWithFinished measures starts over jobs that are over, after each sort of end.
func startWithFinished(b *bench, t *table) error {
	dir, err := b.store()
	if err != nil {
		return err
	}
	s, err := b.millOn(dir)
	if err != nil {
		return err
	}
	if err := b.submit(s, mill.Instant, b.size.finished); err != nil {
		return err
	}
	time.Sleep(b.size.settle) // until the log is purged
	for _, end := range []struct {
		what string
		stop func(*proc.Process) error
	}{{"after an orderly end", inOrder}, {"after `kill -9`", (*proc.Process).Kill}} {
		var took series
		for range b.size.rounds {
			if err := b.stop(s.Process, end.stop); err != nil {
				return err
			}
			if s, err = b.ready(dir, &took); err != nil {
				return err
			}
			if err := b.listed(s); err != nil {
				return err
			}
		}
		t.row(fmt.Sprintf("%s jobs over, %s", commas(fmt.Sprint(b.size.finished)), end.what), took.as(seconds))
	}
	return nil
}

// inOrder stops the server, and then its process.
func inOrder(p *proc.Process) error {
	return errors.Join(p.Call("Stop", struct{}{}, &struct{}{}), p.Stop())
}

// listed fails unless there is a job that is over.
func (b *bench) listed(s *server) error {
	text, err := get(s.url + "/v1/jobs?limit=1&status=succeeded")
	if err == nil && !bytes.Contains(text, []byte(`"succeeded"`)) {
		err = errors.New("no job is there that is over")
	}
	return err
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
	for _, kind := range []string{mill.Instant, mill.Wait} {
		if err := b.submit(s, kind, b.size.stored); err != nil {
			return err
		}
	}
	return b.complete(s)
}

// submit stores n jobs of a kind, and waits until there is nothing left to do about them.
func (b *bench) submit(s *server, kind string, n int) error {
	p, err := b.process(loadRole)
	if err != nil {
		return err
	}
	c := load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(kind), Clients: b.size.clients, Count: n}
	if err := p.Call("Run", c, new(load.Result)); err != nil {
		return err
	}
	_, err = quiet(s.Process)
	return err
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

package main

import (
	"fmt"
	"time"

	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/bench/internal/reader"
)

// eventRate is how many events a second all jobs say together: busy, and far from
// what either server can do.
const eventRate = 1000

// latency measures the way of an event from the worker to its reader.
func latency(b *bench) error {
	ours, bare, err := b.pair(b.size.jobs, 1)
	if err != nil {
		return err
	}
	both := []*streams{ours, bare}
	for _, s := range both {
		if err := s.open(b, reader.Config{Age: true}); err != nil {
			return err
		}
	}
	p50, p99 := make([]series, len(both)), make([]series, len(both))
	for range b.size.rounds {
		for i, s := range both {
			ages, err := s.pace(b.size.block)
			if err != nil {
				return err
			}
			p50[i].add(percentile(ages, 50))
			p99[i].add(percentile(ages, 99))
		}
	}
	t := b.report.table("Latency", fmt.Sprintf("%d events/s, of %d jobs in turn, each with one reader: from the worker's call to the reader's socket. "+
		"Millstream has stored the event by then.", eventRate, b.size.jobs), "server", "p50", "p99")
	for i, s := range both {
		t.row(s.name, p50[i].as(seconds), p99[i].as(seconds))
	}
	b.report.ratio("latency p50 / "+bare.name, p50[0].over(p50[1]), "")
	return nil
}

// pace lets the jobs say events for a while, and returns how old they were when
// they came.
func (s *streams) pace(d time.Duration) (ages []time.Duration, err error) {
	if _, err := quiet(s.Process); err != nil {
		return nil, err
	}
	var said int
	if err := s.Call("Pace", payload.Pacing{Rate: eventRate, For: d}, &said); err != nil {
		return nil, err
	}
	if err := s.await(said); err != nil {
		return nil, err
	}
	return ages, s.reader.Call("Ages", struct{}{}, &ages)
}

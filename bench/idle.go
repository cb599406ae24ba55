package main

import (
	"fmt"

	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/bench/internal/reader"
)

// said is how many events go over the streams before they are weighed again:
// buffers that grow have grown by then.
const said = 20

// idle measures the memory of a stream on which nothing happens.
func idle(b *bench) error {
	ours, bare, err := b.pair(1, b.size.idle)
	if err != nil {
		return err
	}
	t := b.report.table("Memory of an open stream", fmt.Sprintf("%d streams of one job, after a garbage collection: what the process has more than "+
		"without them, for each. New: nothing was sent but the beginning. Used: %d events were.", b.size.idle, said),
		"server", "", "resident", "heap", "stacks", "goroutines")
	var resident [2]series
	for i, s := range []*streams{ours, bare} {
		before, err := s.weigh()
		if err != nil {
			return err
		}
		if err := s.open(b, reader.Config{Nap: nap}); err != nil {
			return err
		}
		for _, state := range []string{"new", "used"} {
			if state == "used" {
				err = s.publishEach(said)
			}
			if err != nil {
				return err
			}
			m, err := s.weigh()
			if err != nil {
				return err
			}
			each := func(now, then int64) float64 { return float64(now-then) / float64(b.size.idle) }
			resident[i].add(each(m.Resident, before.Resident))
			t.row(s.name, state, bytesOf(each(m.Resident, before.Resident)), bytesOf(each(m.Heap, before.Heap)),
				bytesOf(each(m.Stack, before.Stack)), count(each(m.Goroutines, before.Goroutines)))
		}
	}
	b.report.ratio("memory of an open stream, new and used / "+bare.name, resident[0].over(resident[1]), "")
	return nil
}

// weigh returns the memory of a server that has nothing to do.
func (s *streams) weigh() (proc.Memory, error) {
	if _, err := quiet(s.Process); err != nil {
		return proc.Memory{}, err
	}
	return s.Memory()
}

// publishEach publishes n events, one after the other.
func (s *streams) publishEach(n int) error {
	for range n {
		if err := s.publish(1); err != nil {
			return err
		}
	}
	return nil
}

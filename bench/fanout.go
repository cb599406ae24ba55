package main

import (
	"fmt"
	"time"

	"github.com/millstream/millstream/bench/internal/reader"
)

// nap is how long the readers let events pile up, in both servers' runs alike.
const nap = time.Millisecond

// bursts are how many events a job says at once.
var bursts = []int{1, 10}

// fanOut measures what a delivery costs the server.
func fanOut(b *bench) error {
	t := b.report.table("Fan-out", "Events said back to back, and waited for until every reader has them; over and over. "+
		"Deliveries are counted where they arrive, CPU is the server's, the store's included; the plain handler stores nothing.",
		"jobs × readers", "at once", "server", "deliveries a CPU second", "deliveries/s")
	for _, shape := range [][2]int{{1, b.size.readers}, {b.size.jobs, 1}} {
		if err := fanOutTo(b, t, shape[0], shape[1]); err != nil {
			return err
		}
	}
	return nil
}

// delivered is how fast a server delivered.
type delivered struct{ perCPU, perSecond series }

func fanOutTo(b *bench, t *table, jobs, readers int) error {
	ours, bare, err := b.pair(jobs, readers)
	if err != nil {
		return err
	}
	for _, s := range []*streams{ours, bare} {
		if err := s.open(b, reader.Config{Nap: nap}); err != nil {
			return err
		}
	}
	shape := fmt.Sprintf("%d × %d", jobs, readers)
	for _, burst := range bursts {
		var our, their delivered
		for range b.size.rounds {
			if err := our.round(ours, b.size.block, burst); err != nil {
				return err
			}
			if err := their.round(bare, b.size.block, burst); err != nil {
				return err
			}
		}
		t.row(shape, fmt.Sprint(burst), ours.name, our.perCPU.as(count), our.perSecond.as(count))
		t.row(shape, fmt.Sprint(burst), bare.name, their.perCPU.as(count), their.perSecond.as(count))
		aim := ""
		if jobs == 1 && burst > 1 {
			aim = "≥ 5×"
		}
		b.report.ratio(fmt.Sprintf("deliveries a CPU second, %s, %d at once / %s", shape, burst, bare.name), our.perCPU.over(their.perCPU), aim)
	}
	return b.clean()
}

// round publishes for a while.
func (d *delivered) round(s *streams, block time.Duration, burst int) error {
	before, err := quiet(s.Process)
	if err != nil {
		return err
	}
	begin, from := time.Now(), s.got
	for time.Since(begin) < block {
		if err := s.publish(burst); err != nil {
			return err
		}
	}
	elapsed := time.Since(begin)
	after, err := s.CPU()
	deliveries := float64(s.got - from)
	d.perCPU.add(deliveries / (after - before).Seconds())
	d.perSecond.add(deliveries / elapsed.Seconds())
	return err
}

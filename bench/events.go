package main

import (
	"fmt"

	"github.com/millstream/millstream/bench/internal/log"
	"github.com/millstream/millstream/bench/internal/proc"
)

// window is how many events a job says ahead of its tape, where they may be
// joined on the way: as many again as one message and the next hold.
const window = 16

// events measures the way of an event from the worker to its job's tape.
func events(b *bench) error {
	dir, err := b.store()
	if err != nil {
		return err
	}
	p, err := b.process(logRole)
	if err != nil {
		return err
	}
	if err := p.Call("Open", log.Config{Data: dir, Jobs: b.size.jobs}, &struct{}{}); err != nil {
		return err
	}
	t := b.report.table("Events, from the worker to the tape", fmt.Sprintf("%d jobs in one process. Each has so many events on their way at most: "+
		"one, which is a message of its own, or %d, of which those that come while a message is in flight are joined into the next. "+
		"CPU is that of workers, log and tapes together.", b.size.jobs, window),
		"on their way", "events/s", "messages/s", "CPU an event")
	for _, w := range []int{1, window} {
		if err := talk(b, p, t, w); err != nil {
			return err
		}
	}
	return nil
}

func talk(b *bench, p *proc.Process, t *table, window int) error {
	var events, messages, cpu series
	for range b.size.rounds {
		before, err := p.CPU()
		if err != nil {
			return err
		}
		var said log.Said
		if err := p.Call("Talk", log.Talk{Window: window, For: b.size.block}, &said); err != nil {
			return err
		}
		after, err := p.CPU()
		if err != nil {
			return err
		}
		events.add(float64(said.Events) / said.Elapsed.Seconds())
		messages.add(float64(said.Messages) / said.Elapsed.Seconds())
		cpu.add((after - before).Seconds() / float64(said.Events))
	}
	t.row(fmt.Sprint(window), events.as(count), messages.as(count), cpu.as(seconds))
	return nil
}

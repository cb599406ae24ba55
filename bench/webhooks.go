package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/millstream/millstream/bench/internal/hook"
	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
)

// hooked are the rounds of webhooks.
type hooked struct {
	*server
	clients, receiver *proc.Process
	url               string // of the receiver
	size              size

	plainRate, plainCPU series // of jobs that tell nobody
	rate, cpu           series // of jobs that were delivered, each with its delivery
}

// webhooks measures jobs whose end is delivered, against jobs that tell nobody, and against
// who only signs and sends.
func webhooks(b *bench) error {
	s, err := b.mill()
	if err != nil {
		return err
	}
	h := &hooked{server: s, size: b.size}
	if h.clients, err = b.process(loadRole); err != nil {
		return err
	}
	if h.receiver, err = b.process(receiverRole); err != nil {
		return err
	}
	if err := h.receiver.Call("Listen", struct{}{}, &h.url); err != nil {
		return err
	}
	sender, err := b.process(senderRole)
	if err != nil {
		return err
	}
	var bareRate, bareCPU series
	for round := range b.size.rounds + 1 { // the first is to get warm
		counts := round > 0
		if err := h.plain(counts); err != nil {
			return err
		}
		if err := h.delivered(counts); err != nil {
			return err
		}
		if err := h.bare(sender, &bareRate, &bareCPU, counts); err != nil {
			return err
		}
	}
	b.report.webhooks(h, bareRate, bareCPU)
	return nil
}

// plain runs jobs until they are over.
func (h *hooked) plain(counts bool) error {
	return h.round(body(mill.Instant), &h.plainRate, &h.plainCPU, counts, func() error {
		return eventually(func() (bool, error) {
			queued, running, err := h.depth(mill.Instant)
			return queued+running == 0, err
		})
	})
}

// delivered runs jobs until all have been told of.
func (h *hooked) delivered(counts bool) error {
	text := strings.TrimSuffix(body(mill.Instant), "}") + `,"webhook":{"url":"` + h.url + `"}}`
	return h.round(text, &h.rate, &h.cpu, counts, func() error {
		return h.receiver.Call("Wait", h.size.hooked, &struct{}{})
	})
}

// round submits jobs, and takes the time and the server's CPU until they are done with.
func (h *hooked) round(body string, rate, cpu *series, counts bool, done func() error) error {
	before, err := quiet(h.Process)
	if err != nil {
		return err
	}
	begin := time.Now()
	c := load.Config{Address: h.address(), Path: "/v1/jobs", Body: body, Clients: h.size.clients, Count: h.size.hooked}
	if err := h.clients.Call("Run", c, new(load.Result)); err != nil {
		return err
	}
	if err := done(); err != nil {
		return err
	}
	elapsed := time.Since(begin)
	after, err := quiet(h.Process)
	if counts {
		rate.add(float64(h.size.hooked) / elapsed.Seconds())
		cpu.add((after - before).Seconds() / float64(h.size.hooked))
	}
	return err
}

// What Millstream sends here: so many at once to one host, each of about this size.
const (
	hookAtOnce = 8
	hookBytes  = 220
)

// bare sends as much, and does nothing else.
func (h *hooked) bare(sender *proc.Process, rate, cpu *series, counts bool) error {
	before, err := quiet(sender)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := sender.Call("Run", hook.Sending{URL: h.url, Count: h.size.hooked, AtOnce: hookAtOnce, Bytes: hookBytes}, &struct{}{}); err != nil {
		return err
	}
	elapsed := time.Since(begin)
	if err := h.receiver.Call("Wait", h.size.hooked, &struct{}{}); err != nil {
		return err
	}
	after, err := quiet(sender)
	if counts {
		rate.add(float64(h.size.hooked) / elapsed.Seconds())
		cpu.add((after - before).Seconds() / float64(h.size.hooked))
	}
	return err
}

func (r *report) webhooks(h *hooked, bareRate, bareCPU series) {
	t := r.table("Webhooks", fmt.Sprintf("%s jobs that end at once, submitted by %d clients, until the last is over; the same with a webhook each, to one host that answers 204, until the last has come; "+
		"and a program that signs and sends as many, %d at once, and stores nothing. CPU is the server's, or that program's.", commas(fmt.Sprint(h.size.hooked)), h.size.clients, hookAtOnce),
		"", "a second", "CPU of each")
	t.row("jobs without a webhook", h.plainRate.as(count), h.plainCPU.as(seconds))
	t.row("jobs with one, delivered", h.rate.as(count), h.cpu.as(seconds))
	t.row("signed and sent, nothing stored", bareRate.as(count), bareCPU.as(seconds))
	r.ratio("jobs delivered a second / jobs over a second without a webhook", h.rate.over(h.plainRate), "")
	r.ratio("jobs delivered a second / signed and sent a second", h.rate.over(bareRate), "")
}

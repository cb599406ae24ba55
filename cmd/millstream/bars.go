package main

import (
	"cmp"
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/millstream/millstream/pkg/client"
	"github.com/millstream/millstream/pkg/job"
)

const (
	barWidth = 30
	barFull  = 1000 // steps of a bar: more than a terminal has columns
)

// bars shows a bar for each job.
type bars struct {
	*mpb.Progress // writes above the bars
	named         bool

	mu   sync.Mutex // protects of
	jobs map[job.ID]*bar
}

type bar struct {
	*mpb.Bar

	mu   sync.Mutex // protects the fields below
	text string     // how far the job is
	away string     // why that is not known; empty: it is
}

// newBars opens bars at the bottom of a terminal; named ones say whose they are.
func newBars(terminal io.Writer, named bool) *bars {
	return &bars{Progress: mpb.New(mpb.WithOutput(terminal)), named: named, jobs: map[job.ID]*bar{}}
}

// add adds the bar of a job of which nothing is known yet.
func (s *bars) add(id job.ID) *bar {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.jobs[id]; b != nil {
		return b
	}
	b := &bar{text: "waiting"}
	options := []mpb.BarOption{
		mpb.BarWidth(barWidth),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return b.label() })),
	}
	if s.named {
		options = append(options, mpb.PrependDecorators(decor.Name(string(id))))
	}
	b.Bar = s.AddBar(0, options...) // a bar with a total ends when it is reached
	b.SetTotal(barFull, false)
	s.jobs[id] = b
	return b
}

func (b *bar) label() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return cmp.Or(b.away, b.text)
}

// lose says why there is no news; nothing: there is again, and the last one holds.
func (b *bar) lose(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = why
}

func (b *bar) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
}

// show moves the bar of the event's job.
func (s *bars) show(e *client.Event) error {
	b := s.add(e.Job)
	if e.Type == job.Output || e.Type == job.Log || !e.Type.Reserved() {
		return nil // that says nothing about how far it is
	}
	switch e.Type {
	case job.Progress:
		p := dataOf[client.Progress](e)
		b.SetCurrent(filled(p))
		b.say(clean(progressText(p)))
		return nil
	case job.Running:
		b.SetCurrent(0)
	case job.Succeeded:
		b.SetCurrent(barFull)
	}
	b.say(describe(e))
	if e.Type.Terminal() {
		b.Abort(false)
	}
	return nil
}

func (s *bars) lost(id job.ID, text string) { s.add(id).lose(text) }
func (s *bars) found(id job.ID)             { s.add(id).lose("") }

// filled returns how much of a bar is full; nothing if the total is not known.
func filled(p client.Progress) int64 {
	if p.Total == nil || *p.Total <= 0 {
		return 0
	}
	return int64(barFull * min(1, max(0, p.Progress / *p.Total)))
}

// close leaves the bars as they stand.
func (s *bars) close() {
	s.mu.Lock()
	for _, b := range s.jobs {
		b.Abort(false)
	}
	s.mu.Unlock()
	s.Wait()
}

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/pkg/job"
)

// history is a job with events behind it.
type history struct {
	id      job.ID
	events  int // that it was told to say
	cursors []string
	p50     map[string]series // by the state the job was in
}

// The states in which a job is resumed.
const (
	live     = "live"
	finished = "finished"
	cold     = "finished, before a restart"
)

// resume measures the time to the first event behind a cursor, which may be any
// of the job's.
func resume(b *bench) error {
	t := b.report.table("Resume", fmt.Sprintf("A new connection, `GET` with a random `Last-Event-ID`, until the first event behind it is there; %d times a round, one at a time.",
		b.size.resumes), "events", "job is", "p50", "p99")
	var jobs []*history
	for _, n := range b.size.history {
		h := &history{p50: map[string]series{}}
		if err := h.live(b, t, n); err != nil {
			return fmt.Errorf("%d events: %w", n, err)
		}
		jobs = append(jobs, h)
	}
	for _, state := range []string{live, finished, cold} {
		small, large := jobs[0], jobs[len(jobs)-1]
		b.report.ratio(fmt.Sprintf("time to resume, %s, %d events / %d", state, large.events, small.events),
			large.p50[state].over(small.p50[state]), "≤ 1.5×")
	}
	return nil
}

// live measures a job of n events in all states of its life.
func (h *history) live(b *bench, t *table, n int) error {
	dir, err := b.store()
	if err != nil {
		return err
	}
	s, err := b.millOn(dir)
	if err != nil {
		return err
	}
	if err := h.fill(b, s, n); err != nil {
		return err
	}
	if err := h.measure(b, t, s, live); err != nil {
		return err
	}
	if err := h.finish(s); err != nil {
		return err
	}
	if err := h.measure(b, t, s, finished); err != nil {
		return err
	}
	if err := errors.Join(s.Call("Stop", struct{}{}, &struct{}{}), b.stop(s.Process, (*proc.Process).Stop)); err != nil {
		return err
	}
	if s, err = b.millOn(dir); err != nil {
		return err
	}
	return h.measure(b, t, s, cold)
}

// fill starts the job, lets it say n events and reads their cursors.
func (h *history) fill(b *bench, s *server, n int) error {
	ids, err := b.steer(s, 1)
	if err != nil {
		return err
	}
	h.id = ids[0]
	for said := 0; h.events < n; h.events += said {
		p := payload.Pacing{Rate: fillRate, For: time.Duration(n-h.events) * time.Second / fillRate}
		if err := s.Call("Pace", p, &said); err != nil {
			return err
		}
	}
	return eventually(func() (bool, error) {
		err := h.page(s)
		return len(h.cursors) >= h.events, err
	})
}

// fillRate is how many events a second a job says that is to be resumed: so fast
// that it is soon done, and slow enough that few of them share a message.
const fillRate = 10_000

// page reads all pages there are behind the last cursor that is known.
func (h *history) page(s *server) error {
	for {
		after := ""
		if len(h.cursors) > 0 {
			after = h.cursors[len(h.cursors)-1]
		}
		body, err := get(s.url + mill.Path(h.id) + "?format=json&limit=1000&after=" + after)
		if err != nil {
			return err
		}
		var page struct{ Events []struct{ ID string } }
		if err := json.Unmarshal(body, &page); err != nil {
			return err
		}
		if len(page.Events) == 0 {
			return nil
		}
		for _, e := range page.Events {
			h.cursors = append(h.cursors, e.ID)
		}
	}
}

// finish ends the job and waits until all is quiet: it is archived then.
func (h *history) finish(s *server) error {
	if err := s.Call("Finish", struct{}{}, &struct{}{}); err != nil {
		return err
	}
	if err := eventually(func() (bool, error) {
		body, err := get(s.url + "/v1/jobs/" + string(h.id))
		return strings.Contains(string(body), `"status":"succeeded"`), err
	}); err != nil {
		return err
	}
	_, err := quiet(s.Process)
	return err
}

func (h *history) measure(b *bench, t *table, s *server, state string) error {
	var p50, p99 series
	for range b.size.rounds {
		var times []time.Duration
		for range b.size.resumes {
			d, err := first(s.address(), mill.Path(h.id), h.cursors[rand.IntN(len(h.cursors)-1)])
			if err != nil {
				return err
			}
			times = append(times, d)
		}
		slices.Sort(times)
		p50.add(percentile(times, 50))
		p99.add(percentile(times, 99))
	}
	h.p50[state] = p50
	t.row(commas(fmt.Sprint(h.events)), state, p50.as(seconds), p99.as(seconds))
	return nil
}

// first returns how long it takes until the first event behind the cursor is there.
func first(address, path, cursor string) (time.Duration, error) {
	begin := time.Now()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nLast-Event-ID: %s\r\n\r\n", path, address, cursor); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "event: ") {
			return time.Since(begin), nil
		}
	}
	return 0, errors.New("the stream ended before an event came")
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/pkg/job"
)

// follower follows one job on a connection of its own, whose bytes are counted.
type follower struct {
	name   string
	client *http.Client
	base   string
	id     job.ID

	requests int
	up, down atomic.Int64  // bytes on the wire
	late     time.Duration // of all steps that were seen, together
	seen     int
	over     bool
}

// counted is a connection of a follower.
type counted struct {
	net.Conn
	f *follower
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.f.down.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.f.up.Add(int64(n))
	return n, err
}

// polling measures what it takes to follow one job in each of the ways that there are.
func polling(b *bench) error {
	s, err := b.mill()
	if err != nil {
		return err
	}
	ticks := mill.Ticks{Steps: b.size.steps, Every: b.size.step}
	ways := []struct {
		name   string
		follow func(*follower) error
	}{
		{"Server-Sent Events", (*follower).stream},
		{"pages, `Prefer: wait=25`", (*follower).pages},
		{"the job, `Prefer: wait=25` and its ETag", (*follower).changes},
		{"the job each second, its ETag", (*follower).polls},
		{"the job each second", (*follower).naive},
	}
	id, err := s.tick(ticks)
	if err != nil {
		return err
	}
	t := b.report.table("Polling", fmt.Sprintf("One job that says %d times how far it is, every %s, followed in five ways at once. Bytes are those of the connection, with all headers; "+
		"an event is late from its own time to when its reader has it.", ticks.Steps, ticks.Every), "way", "requests", "bytes sent", "bytes received", "steps seen", "late, on average")
	followers := make([]*follower, len(ways))
	errs := make([]error, len(ways))
	var all sync.WaitGroup
	for i, w := range ways {
		f := &follower{name: w.name, base: "http://" + s.address(), id: id}
		f.client = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			return counted{c, f}, err
		}}}
		followers[i] = f
		all.Go(func() { errs[i] = w.follow(f) })
	}
	all.Wait()
	for i, f := range followers {
		f.client.CloseIdleConnections()
		if errs[i] != nil {
			return fmt.Errorf("%s: %w", f.name, errs[i])
		}
		late := "–" // a job does not say when its events were
		if f.late > 0 {
			late = (f.late / time.Duration(f.seen)).Round(time.Millisecond).String()
		}
		t.row(f.name, commas(fmt.Sprint(f.requests)), commas(fmt.Sprint(f.up.Load())), commas(fmt.Sprint(f.down.Load())), fmt.Sprint(f.seen), late)
	}
	return nil
}

// tick submits a job of kind Ticking.
func (s *server) tick(t mill.Ticks) (job.ID, error) {
	body, err := json.Marshal(map[string]any{"kind": mill.Ticking, "input": t})
	if err != nil {
		return "", err
	}
	resp, err := http.Post(s.url+"/v1/jobs", "application/json", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var j struct{ ID job.ID }
	err = json.NewDecoder(resp.Body).Decode(&j)
	return j.ID, err
}

func (f *follower) get(path string, headers ...string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, f.base+"/v1/jobs/"+string(f.id)+path, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	f.requests++
	return f.client.Do(req)
}

// step is an event, or a job, as far as this needs it.
type step struct {
	ID     string
	Type   string
	Time   time.Time
	Status job.Status
	Cursor string
}

func (f *follower) take(e step) {
	f.over = f.over || job.Type(e.Type).Terminal()
	if e.Type == string(job.Progress) {
		f.seen++
		f.late += time.Since(e.Time)
	}
}

func (f *follower) stream() error {
	resp, err := f.get("/events", "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var e step
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				return err
			}
			f.take(e)
		}
	}
	return f.ended()
}

func (f *follower) pages() error {
	for cursor := ""; !f.over; {
		resp, err := f.get("/events?after="+cursor, "Accept", "application/json", "Prefer", "wait=25")
		if err != nil {
			return err
		}
		var page struct {
			Events []step
			Cursor string
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			f.take(e)
		}
		cursor = page.Cursor
	}
	return f.ended()
}

func (f *follower) changes() error { return f.look(0, true, "Prefer", "wait=25") }
func (f *follower) polls() error   { return f.look(time.Second, true) }
func (f *follower) naive() error   { return f.look(time.Second, false) }

// look asks for the job, at most so often, and counts what is new in it: of steps between
// two looks only the last is seen.
func (f *follower) look(every time.Duration, tagged bool, headers ...string) error {
	cursor, tag := "", ""
	for ; !f.over; time.Sleep(every) {
		resp, err := f.get("", append(headers, "If-None-Match", tag)...)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == http.StatusNotModified {
			continue
		}
		var j struct {
			step
			Progress json.RawMessage
		}
		if err := json.Unmarshal(b, &j); err != nil {
			return err
		}
		if tagged {
			tag = resp.Header.Get("ETag")
		}
		f.over = j.Status.Over()
		if j.Cursor != cursor && string(j.Progress) != "null" && !f.over {
			f.seen++
		}
		cursor = j.Cursor
	}
	return f.ended()
}

func (f *follower) ended() error {
	if !f.over {
		return fmt.Errorf("no end after %d steps", f.seen)
	}
	return nil
}

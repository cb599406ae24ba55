package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/payload"
	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/bench/internal/reader"
)

const (
	// portions is how many the jobs are submitted in, each with the retention that has it
	// expire when the others do.
	portions = 50
	// fillTime is how long one job may take to be there: several times what it does take.
	fillTime = time.Millisecond
	// fewJobs share a file of the store with those of the live work, and are not given back.
	fewJobs = 10_000
	// liveJobs say events meanwhile.
	liveJobs = 100
)

// herd is jobs that expire together, and the live work meanwhile.
type herd struct {
	*bench
	server  *server
	clients *proc.Process
	live    *streams
	dir     string
	end     time.Time // when all expire
	each    float64   // what one job takes of the archive
	full    int64     // size of the archive with all of them
	lived   int       // jobs of the live work that came to the archive since
}

// feeling is what the live work feels in one phase, in each block of it.
type feeling struct{ submit, event series }

// expiry measures what live work feels of many jobs that expire at once.
func expiry(b *bench) error {
	h, err := b.herd()
	if err != nil {
		return err
	}
	if err := h.fill(); err != nil {
		return err
	}
	if err := h.begin(); err != nil {
		return err
	}
	var before, during, after feeling
	gone, err := h.phases(&before, &during, &after)
	if err != nil {
		return err
	}
	b.report.expiry(h, []*feeling{&before, &during, &after}, gone)
	return nil
}

// herd starts the server and those who will submit to it.
func (b *bench) herd() (h *herd, err error) {
	h = &herd{bench: b}
	if h.dir, err = b.store(); err != nil {
		return nil, err
	}
	if h.server, err = b.millOn(h.dir); err != nil {
		return nil, err
	}
	h.clients, err = b.process(loadRole)
	return h, err
}

// fill stores the jobs, and fails if they expire before the live work was seen alone.
func (h *herd) fill() error {
	empty, err := h.archive()
	if err != nil {
		return err
	}
	lead := time.Duration(h.size.rounds+5) * h.size.block
	h.end = time.Now().Add(time.Duration(h.size.stored)*fillTime + h.size.settle + 2*lead)
	for range portions {
		left := time.Until(h.end).Round(time.Millisecond)
		if left < lead {
			return fmt.Errorf("not all jobs were there %s before they expire", lead)
		}
		c := load.Config{Address: h.server.address(), Path: "/v1/jobs", Clients: h.size.clients, Count: h.size.stored / portions}
		c.Body = fmt.Sprintf(`{"retention":"%s",%s`, left, body(mill.Instant)[1:])
		if err := h.clients.Call("Run", c, new(load.Result)); err != nil {
			return err
		}
	}
	if _, err := quiet(h.server.Process); err != nil {
		return err
	}
	if left := time.Until(h.end); left < lead {
		return fmt.Errorf("the jobs expire in %s already", left)
	}
	h.full, err = h.archive()
	h.each = float64(h.full-empty) / float64(h.size.stored)
	return err
}

// begin starts the jobs that say events. They come last: what is older than they are is
// no part of the log any more.
func (h *herd) begin() error {
	n := min(liveJobs, h.size.jobs)
	ids, err := h.steer(h.server, n)
	if err != nil {
		return err
	}
	h.live = &streams{server: h.server, frames: 2} // job.queued, job.running
	for _, id := range ids {
		h.live.add(mill.Path(id), 1)
	}
	return h.live.open(h.bench, reader.Config{Age: true})
}

// phases takes the live work before, while and after the jobs go, and returns how long
// after their end the disk had them.
func (h *herd) phases(before, during, after *feeling) (gone time.Duration, err error) {
	time.Sleep(time.Until(h.end.Add(-time.Duration(h.size.rounds+1) * h.size.block)))
	for time.Until(h.end) > h.size.block {
		if err := h.block(before); err != nil {
			return 0, err
		}
	}
	time.Sleep(time.Until(h.end))
	for gone == 0 || time.Since(h.end) < h.size.sweep {
		if err := h.block(during); err != nil {
			return 0, err
		}
		left, err := h.left()
		switch {
		case err != nil:
			return 0, err
		case gone == 0 && (left < 0.1 || h.size.stored < fewJobs):
			gone = time.Since(h.end)
		case time.Since(h.end) > 2*patience:
			return 0, fmt.Errorf("%.0f %% are on the disk after %s", 100*left, 2*patience)
		}
	}
	for range h.size.rounds {
		if err := h.block(after); err != nil {
			return 0, err
		}
	}
	return gone, nil
}

// block is submits and events for a while, side by side.
func (h *herd) block(f *feeling) error {
	var said int
	events := make(chan error, 1)
	go func() {
		events <- h.server.Call("Pace", payload.Pacing{Rate: eventRate, For: h.size.block}, &said)
	}()
	var r load.Result
	err := h.clients.Call("Run", smallJobs(h.server, h.size), &r)
	if err := errors.Join(err, <-events); err != nil {
		return err
	}
	if err := h.live.await(said); err != nil {
		return err
	}
	var ages []time.Duration
	if err := h.live.reader.Call("Ages", struct{}{}, &ages); err != nil {
		return err
	}
	h.lived += r.Answers
	f.submit.add(r.P99.Seconds())
	f.event.add(percentile(ages, 99))
	return nil
}

// left returns which part of the jobs is on the disk, as far as its size tells.
func (h *herd) left() (float64, error) {
	size, err := h.archive()
	grown := float64(size-h.full)/h.each - float64(h.lived)
	return 1 + grown/float64(h.size.stored), err
}

// archive returns how large the archive is on the disk.
func (h *herd) archive() (size int64, err error) {
	dir := filepath.Join(h.dir, "jetstream", "$G", "streams", "DONE")
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return skipGone(err)
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return skipGone(err)
	})
	return size, err
}

// skipGone forgives a file that was removed between its listing and the look at it.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r *report) expiry(h *herd, phases []*feeling, gone time.Duration) {
	stored := commas(fmt.Sprint(h.size.stored))
	t := r.table("Expiry", fmt.Sprintf("%s jobs that are over expire at the same moment, to a second. Live work meanwhile: one client that waits for the end of each of its jobs, and %d events/s of "+
		"%d jobs with a reader each; p99 of blocks of %s. During: until the archive on the disk is smaller by nine tenths of what the jobs took, and %s at least, by when the index has looked for them twice. "+
		"Of the disk they were gone after %s; each took %s of it.", stored, eventRate, len(h.live.paths), h.size.block, h.size.sweep,
		gone.Round(time.Second), bytesOf(h.each)), "phase", "blocks", "p99 of submit to end", "p99 of an event")
	for i, name := range []string{"before", "during", "after"} {
		f := phases[i]
		t.row(name, fmt.Sprint(len(f.submit)), f.submit.as(seconds), f.event.as(seconds))
	}
	before := phases[0]
	for i, name := range []string{"while " + stored + " jobs expire", "after it"} {
		f := phases[i+1]
		r.ratio("p99 of a small job "+name+" / before", f.submit.against(before.submit.median()), "")
		r.ratio("p99 of an event "+name+" / before", f.event.against(before.event.median()), "")
	}
}

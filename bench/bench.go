package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/millstream/millstream/bench/internal/load"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/bench/internal/reader"
	"github.com/millstream/millstream/pkg/job"
)

// size says how much is measured.
type size struct {
	rounds   int           // of each comparison
	block    time.Duration // of one side in one round
	clients  int           // that submit
	jobs     int           // that say events at once
	readers  int           // of one job
	idle     int           // streams
	history  []int         // events of the jobs that are resumed
	resumes  int           // of each
	stored   int           // jobs that a start finds queued, and as many over; or that expire
	finished int           // jobs that a start finds over, and no others
	settle   time.Duration // until nothing of those that expire is under way
	sweep    time.Duration // in which the index has surely forgotten them
	steps    int           // of the job that is followed in all ways
	step     time.Duration // between two of them
	hooked   int           // jobs whose end is delivered, in one round
}

var (
	full = size{
		rounds: 5, block: 2 * time.Second, clients: 64, jobs: 2000, readers: 1000, idle: 5000,
		history: []int{1_000, 100_000}, resumes: 100, stored: 100_000, finished: 200_000,
		settle: 10 * time.Second, sweep: 20 * time.Second, steps: 20, step: 1500 * time.Millisecond, hooked: 5_000,
	}
	small = size{
		rounds: 1, block: 200 * time.Millisecond, clients: 8, jobs: 100, readers: 100, idle: 200,
		history: []int{100, 2_000}, resumes: 20, stored: 1_000, finished: 2_000, settle: 3 * time.Second, steps: 5, step: 50 * time.Millisecond,
		hooked: 200,
	}
)

// bench is one run of the program.
type bench struct {
	size   size
	dir    string
	report report

	processes []*proc.Process // of the current measurement
	stores    []string
}

// process starts a part. It runs until clean.
func (b *bench) process(role string) (*proc.Process, error) {
	p, err := proc.Start(role)
	if err == nil {
		b.processes = append(b.processes, p)
	}
	return p, err
}

// stop ends a part before clean does.
func (b *bench) stop(p *proc.Process, stop func(*proc.Process) error) error {
	for i := range b.processes {
		if b.processes[i] == p {
			b.processes = append(b.processes[:i], b.processes[i+1:]...)
			break
		}
	}
	return stop(p)
}

// store returns a directory for a store. It is there until clean.
func (b *bench) store() (string, error) {
	dir, err := os.MkdirTemp(b.dir, "millstream-bench-")
	b.stores = append(b.stores, dir)
	return dir, err
}

// clean ends what was started and removes what was stored.
func (b *bench) clean() error {
	var errs []error
	for _, p := range b.processes {
		errs = append(errs, p.Stop())
	}
	for _, dir := range b.stores {
		errs = append(errs, os.RemoveAll(dir))
	}
	b.processes, b.stores = nil, nil
	return errors.Join(errs...)
}

// server is a server under measurement.
type server struct {
	*proc.Process
	name string
	url  string
}

func (s *server) address() string { return strings.TrimPrefix(s.url, "http://") }

// mill starts a Millstream on a fresh store.
func (b *bench) mill() (*server, error) {
	dir, err := b.store()
	if err != nil {
		return nil, err
	}
	return b.millOn(dir)
}

// millOn starts a Millstream on a store that is there.
func (b *bench) millOn(dir string) (*server, error) {
	return b.serve(millRole, "Millstream", mill.Config{Data: dir, Streams: 2 * b.size.idle})
}

// powerSafe starts one that syncs before it tells.
func (b *bench) powerSafe() (*server, error) {
	dir, err := b.store()
	if err != nil {
		return nil, err
	}
	return b.serve(millRole, "Millstream, power-safe", mill.Config{Data: dir, Streams: 2 * b.size.idle, PowerSafe: true})
}

// floor starts the bare handlers.
func (b *bench) floor(name string) (*server, error) { return b.serve(floorRole, name, struct{}{}) }

func (b *bench) serve(role, name string, config any) (*server, error) {
	p, err := b.process(role)
	if err != nil {
		return nil, err
	}
	s := &server{Process: p, name: name}
	return s, p.Call("Run", config, &s.url)
}

// steer starts n jobs that say what they are told to, and returns their ids.
func (b *bench) steer(s *server, n int) ([]job.ID, error) {
	p, err := b.process(loadRole)
	if err != nil {
		return nil, err
	}
	c := load.Config{Address: s.address(), Path: "/v1/jobs", Body: body(mill.Steered), Clients: min(n, b.size.clients), Count: n}
	if err := p.Call("Run", c, new(load.Result)); err != nil {
		return nil, err
	}
	var ids []job.ID
	err = eventually(func() (bool, error) {
		ids = nil
		err := s.Call("Running", struct{}{}, &ids)
		return len(ids) == n, err
	})
	return ids, err
}

// body returns the body of a submit.
func body(kind string) string {
	return `{"kind":"` + kind + `","input":{"url":"https://media.example/in/4711.mov","preset":"720p","notify":true}}`
}

// read opens streams in a process of their own. They have got so many frames each
// when it returns.
func (b *bench) read(c reader.Config, frames int) (*proc.Process, error) {
	p, err := b.process(readerRole)
	if err != nil {
		return nil, err
	}
	if err := p.Call("Open", c, &struct{}{}); err != nil {
		return nil, err
	}
	return p, p.Call("Wait", frames*len(c.Paths), &struct{}{})
}

// patience is how long is waited for what must come.
const patience = time.Minute

// eventually waits until the condition holds.
func eventually(holds func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if held, err := holds(); held || err != nil {
			return err
		}
	}
	return fmt.Errorf("not within %s", patience)
}

// quiet waits until the process has nothing to do, and returns the processor time
// it has used until then.
func quiet(p *proc.Process) (used time.Duration, err error) {
	const look, idle = 100 * time.Millisecond, 2 * time.Millisecond
	err = eventually(func() (bool, error) {
		before, err := p.CPU()
		if err != nil {
			return false, err
		}
		time.Sleep(look)
		used, err = p.CPU()
		return used-before < idle, err
	})
	return used, err
}

// get returns the body of an answer that must be 200.
func get(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

package main

import (
	"github.com/millstream/millstream/bench/internal/floor"
	"github.com/millstream/millstream/bench/internal/mill"
	"github.com/millstream/millstream/bench/internal/proc"
	"github.com/millstream/millstream/bench/internal/reader"
)

// plain is the name of the handler that streams are compared with.
const plain = "a plain net/http handler"

// streams is a server whose jobs have readers.
type streams struct {
	*server
	paths  []string // one for each reader
	frames int      // that a reader gets before any event
	reader *proc.Process
	got    int // frames, by all readers
}

// pair starts Millstream and the plain handler, each with as many jobs that each
// have so many readers to come.
func (b *bench) pair(jobs, readers int) (ours, bare *streams, err error) {
	s, err := b.mill()
	if err != nil {
		return nil, nil, err
	}
	ids, err := b.steer(s, jobs)
	if err != nil {
		return nil, nil, err
	}
	ours = &streams{server: s, frames: 2} // job.queued, job.running
	for _, id := range ids {
		ours.add(mill.Path(id), readers)
	}
	if s, err = b.floor(plain); err != nil {
		return nil, nil, err
	}
	bare = &streams{server: s, frames: 1} // retry
	for n := range jobs {
		bare.add(floor.Path(n), readers)
	}
	return ours, bare, nil
}

func (s *streams) add(path string, readers int) {
	for range readers {
		s.paths = append(s.paths, path)
	}
}

// open opens the streams.
func (s *streams) open(b *bench, c reader.Config) (err error) {
	c.Address, c.Paths = s.address(), s.paths
	s.reader, err = b.read(c, s.frames)
	s.got = s.frames * len(s.paths)
	return err
}

// publish lets each job say n events and returns when all readers have them.
func (s *streams) publish(n int) error {
	if err := s.Call("Publish", n, &struct{}{}); err != nil {
		return err
	}
	return s.await(n * len(s.paths))
}

// await waits for so many frames more.
func (s *streams) await(frames int) error {
	s.got += frames
	return s.reader.Call("Wait", s.got, &struct{}{})
}

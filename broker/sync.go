package broker

import (
	"context"
	"fmt"
	"sync"
)

// syncer makes durable what the store has acknowledged: one sync of its file system for
// all who wait, and the next for those who came meanwhile. No timer: the group is who
// comes while a sync is under way.
type syncer struct {
	sync func() error
	fail func(error) // told once that a sync failed: nothing is durable any more

	mu      sync.Mutex
	waiting []func(error)
	closed  bool
	more    *sync.Cond // of mu: waiting or closed changed
	synced  chan verdicts
	ended   chan struct{}
}

// verdicts are to be told to those who waited for one sync.
type verdicts struct {
	list []func(error)
	err  error
}

// errNotSynced is the error of a store whose sync failed. What it had then is marked
// clean by the system and may never reach the disk: the process has to begin anew.
var errNotSynced = fmt.Errorf("%w: it could not be synced", errSpoiled)

func newSyncer(do func() error, fail func(error)) *syncer {
	s := &syncer{sync: do, fail: fail, synced: make(chan verdicts), ended: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	go s.run()
	go s.tell()
	return s
}

// after calls do once what has been written so far is on the disk, in the order in which it was
// asked for, from one goroutine; with an error if it never will be.
func (s *syncer) after(do func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		go do(errClosed)
		return
	}
	s.waiting = append(s.waiting, do)
	s.more.Signal()
}

// wait returns once what has been written so far is on the disk.
func (s *syncer) wait(ctx context.Context) error {
	done := make(chan error, 1)
	s.after(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run syncs, again and again. The next sync runs while those who waited for the last one
// are told: that takes as long.
func (s *syncer) run() {
	defer close(s.synced)
	var failed error
	for list := s.next(); list != nil; list = s.next() {
		if failed == nil {
			if err := s.sync(); err != nil {
				failed = unavailable(fmt.Errorf("%w: %w", errNotSynced, err))
				s.fail(failed)
			}
		}
		s.synced <- verdicts{list, failed}
	}
}

func (s *syncer) tell() {
	defer close(s.ended)
	for v := range s.synced {
		for _, do := range v.list {
			do(v.err)
		}
	}
}

// next waits for somebody to wait, and returns all who do; nil: it is closed.
func (s *syncer) next() []func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 && !s.closed {
		s.more.Wait()
	}
	list := s.waiting
	s.waiting = nil
	return list
}

// close lets nobody wait any more; who does is served.
func (s *syncer) close() {
	s.mu.Lock()
	s.closed = true
	s.more.Signal()
	s.mu.Unlock()
	<-s.ended
}

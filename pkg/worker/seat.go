package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// seat is where an attempt of a pull kind waits for its worker's word.
type seat struct {
	taken chan struct{} // closed when somebody sits; what follows does not change then
	ctx   context.Context
	t     *Task
	life  time.Duration // of the lease, from each word on

	turn chan struct{} // holds a token while a report is said: they do not mix
	end  chan ending   // the worker's last word

	mu    sync.Mutex // protects the fields below
	heard time.Time  // when the worker last said something
	busy  int        // reports under way: as long as there are any, the worker lives
	over  bool       // nobody is heard any more
}

// ending is what a worker says at its end, as a Func returns it.
type ending struct {
	value any
	err   error
}

func newSeat() *seat {
	return &seat{taken: make(chan struct{}), turn: make(chan struct{}, 1), end: make(chan ending, 1)}
}

// wait waits for the worker's end. A cancel is no end: the worker learns of it with its
// next word, and has the grace from then on.
func (s *seat) wait(grace time.Duration) (any, error) {
	expiry := time.NewTimer(s.life)
	defer expiry.Stop()
	told := s.ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case e := <-s.end:
			s.t.a.Hold.Finish()
			return e.value, e.err
		case <-expiry.C:
			left := s.left()
			if left <= 0 {
				return nil, job.ErrLeaseLost
			}
			expiry.Reset(left)
		case <-told:
			cause := context.Cause(s.ctx)
			if !errors.Is(cause, job.ErrCanceled) {
				return nil, cause
			}
			told, late = nil, time.After(grace)
		case <-late:
			return nil, job.ErrCanceled
		}
	}
}

// left returns how long the lease lives if nobody says anything. If that is no time,
// nobody is heard any more.
func (s *seat) left() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 {
		return s.life
	}
	left := time.Until(s.heard.Add(s.life))
	s.over = s.over || left <= 0
	return left
}

// enter lets a report in; ok is false when nobody is heard any more.
func (s *seat) enter() (ok bool) {
	select {
	case <-s.taken:
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.busy++
	s.heard = time.Now()
	return true
}

func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	s.heard = time.Now()
}

func (s *seat) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// finish is the worker's last word; nothing is heard behind it.
func (s *seat) finish(e ending) {
	s.close()
	select {
	case s.end <- e:
	default: // somebody else was first
	}
}

// lease returns the attempt as its worker takes it.
func (s *seat) lease() job.Lease {
	until, _ := s.ctx.Deadline()
	return job.Lease{Job: s.t.a.Job, Input: s.t.a.Input, Upload: s.t.a.Upload, InputType: s.t.a.InputType, Expires: s.standing().Expires, Until: until}
}

func (s *seat) standing() job.Standing {
	return job.Standing{Expires: time.Now().Add(s.life), Cancel: errors.Is(context.Cause(s.ctx), job.ErrCanceled)}
}

// patience is how long a report waits for its events' turn, if the job has said so much
// that they are paced: the worker is held up for as long, and its request lives.
const patience = 5 * time.Second

// report has the attempt say something when it is its turn. over: the attempt has ended,
// by that or meanwhile. An error is of what was said, and nothing was said.
func (s *seat) report(ctx context.Context, said []job.Said) (over bool, err error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if s.isOver() {
		return true, nil
	}
	script, err := s.t.read(said)
	if err != nil {
		return false, err
	}
	if s.say(script.lines) != nil {
		return true, nil
	}
	if script.end == nil {
		return false, nil
	}
	s.finish(*script.end)
	select {
	case <-s.t.a.Hold.Ended():
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// say says the lines, and returns when they are stored. Of what is too much a job.log
// says so.
func (s *seat) say(lines []func() error) error {
	for _, line := range lines {
		if err := line(); err != nil && !errors.Is(err, job.ErrTooLarge) {
			return err
		}
	}
	return s.t.out.flush(patience)
}

func (s *seat) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

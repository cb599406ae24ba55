// Package torture is the proof of Millstream's promises that anybody can repeat: it
// starts a server, drives it with clients on every transport, does to it what happens
// to servers, and judges by nothing but what the clients wrote down.
//
//	schedule ─▶ faults ─▶ server ◀─ proxy ◀─ submitters, readers, watchers, fetchers, cancelers, erasers, workers
//	                                             │ each writes its diary
//	                                             ▼
//	                           what the server has at the end ─▶ judge ─▶ Verdict
//
// It is an independent witness: it speaks plain HTTP, knows the contract, and shares
// no code with the server or its client.
package torture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what is tortured, and how.
type Options struct {
	Binary   string        // the millstream
	Seed     uint64        // of the faults and of what the clients do
	Duration time.Duration // of the faults; the settling and the judgement come after it
	Dir      string        // where the diaries go; it exists
	Tell     func(Progress)
}

// Progress is how far a torture is.
type Progress struct {
	Elapsed                  time.Duration
	Doing                    string
	Accepted, Events, Faults int64
}

const (
	// settleTime is how long what was accepted may take to be over once nothing is done
	// to the server any more. It takes seconds; a machine that is busy may need more.
	settleTime = 3 * time.Minute
	// tellTime is how often Tell is called.
	tellTime = 250 * time.Millisecond
)

// session is one torture.
type session struct {
	Options
	ctx    context.Context // of all clients
	began  time.Time
	server *server
	line   *proxy    // on the way to the server
	up     *upstream // of the http kinds
	pulls  bool      // the server knows pull workers
	hooks  bool      // and webhooks

	clients sync.WaitGroup
	over    chan struct{} // closed when nothing new is submitted
	workers sync.WaitGroup
	done    chan struct{} // closed when the clients have what they waited for

	accepted, events, faults atomic.Int64
	accepts                  chan struct{} // a token for each submit that was just accepted; one slot
	doing                    atomic.Pointer[string]
}

// Run tortures a server and judges it. An error means that there is no judgement: the
// torture could not be made, or ctx ended.
func Run(ctx context.Context, opt Options) (*Verdict, error) {
	s, err := begin(ctx, opt)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(ctx, opt.Duration+settleTime)
	defer cancel()
	defer s.telling()()
	s.start()
	err = s.work()
	s.say("settling")
	if err != nil {
		cancel()
	}
	s.clients.Wait()
	s.up.settled(s.ctx)
	close(s.done)
	s.workers.Wait()
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	s.say("judging")
	if err := s.audit(ctx); err != nil {
		return nil, err
	}
	v, err := Judge(opt.Dir)
	if err == nil {
		v.Seed, v.Duration = opt.Seed, opt.Duration.String()
	}
	return v, err
}

// begin starts the server and what stands around it.
func begin(ctx context.Context, opt Options) (_ *session, err error) {
	s := &session{Options: opt, began: time.Now(), over: make(chan struct{}), done: make(chan struct{}), accepts: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	if s.up, err = newUpstream(filepath.Join(opt.Dir, "upstream.jsonl")); err != nil {
		return nil, err
	}
	if s.server, err = newServer(opt.Binary, opt.Dir); err != nil {
		return nil, err
	}
	if s.pulls, s.hooks, err = s.server.configure(ctx, s.up.url()); err != nil {
		return nil, err
	}
	if s.line, err = newProxy(s.server.address); err != nil {
		return nil, err
	}
	return s, s.server.boot(ctx)
}

// end stops all that begin has started.
func (s *session) end() {
	if s.line != nil {
		s.line.close()
	}
	if s.server != nil {
		s.server.close()
	}
	if s.up != nil {
		s.up.close()
	}
}

// work does what is scheduled, and ends the submitting.
func (s *session) work() error {
	defer close(s.over)
	s.say("torturing")
	f, err := newFaults(s)
	if err != nil {
		return err
	}
	defer f.diary.close()
	return f.run(s.ctx, schedule(s.Seed, s.Duration))
}

// isOver reports whether nothing new is to be submitted.
func (s *session) isOver() bool {
	return isClosed(s.over) || s.ctx.Err() != nil
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *session) say(doing string) { s.doing.Store(&doing) }

// telling calls Tell now and then, until it is told to end.
func (s *session) telling() (end func()) {
	s.say("starting")
	if s.Tell == nil {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for t := time.NewTicker(tellTime); ; {
			select {
			case <-t.C:
				s.Tell(s.progress())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func (s *session) progress() Progress {
	return Progress{
		Elapsed: time.Since(s.began), Doing: *s.doing.Load(),
		Accepted: s.accepted.Load(), Events: s.events.Load(), Faults: s.faults.Load(),
	}
}

// pause waits, and reports whether the session goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// diaryOf opens the diary of a client.
func (s *session) diaryOf(client string, n int) *diary {
	d, err := openDiary(filepath.Join(s.Dir, fmt.Sprintf("%s-%02d.jsonl", client, n)))
	if err != nil {
		panic(err) // the directory took others a moment ago
	}
	return d
}

// ServerLog returns what the server logged.
func ServerLog(dir string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, logName)) }

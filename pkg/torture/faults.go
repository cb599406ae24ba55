package torture

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// faults does to the server, and around it, what is scheduled. One thing is done at a
// time, and undone before the next.
type faults struct {
	*session
	diary *diary
}

func newFaults(s *session) (*faults, error) {
	d, err := openDiary(filepath.Join(s.Dir, "faults.jsonl"))
	return &faults{s, d}, err
}

// run does it all, and leaves a server that is well.
func (f *faults) run(ctx context.Context, list []doing) error {
	for _, d := range list {
		if !pause(ctx, time.Until(f.began.Add(d.after))) {
			return context.Cause(ctx)
		}
		if time.Since(f.began) > f.Duration {
			break // those before took longer than they might
		}
		if err := f.do(ctx, d); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	pause(ctx, time.Until(f.began.Add(f.Duration)))
	return f.revive(ctx)
}

// ways are how each fault is made. The error of one ends the torture: without a
// server there is nothing to judge.
var ways = map[string]func(*faults, context.Context, doing) (done bool, err error){
	kill:           (*faults).kill,
	killAcked:      (*faults).killAcked,
	stop:           (*faults).stop,
	term:           (*faults).restart,
	cut:            (*faults).cut,
	cutFrame:       (*faults).cut,
	workerKill:     (*faults).killCommand,
	workerFreeze:   (*faults).freezeCommand,
	upstreamCut:    (*faults).cutUpstream,
	upstreamFreeze: (*faults).freezeUpstream,
	disk:           (*faults).sickDisk,
}

func (f *faults) do(ctx context.Context, d doing) error {
	if err := f.revive(ctx); err != nil {
		return err
	}
	began := time.Now()
	done, err := ways[d.name](f, ctx, d)
	if !done || err != nil {
		return err // there was nothing to do it to
	}
	f.faults.Add(1)
	f.diary.note(entry{At: began, What: fault, Kind: d.name, For: time.Since(began)})
	return nil
}

// revive starts a server that has ended by itself.
func (f *faults) revive(ctx context.Context) error {
	if f.server.alive() {
		return nil
	}
	return f.server.boot(ctx)
}

// awayTime bounds how long a server that was killed is away: a supervisor's pace.
const awayTime = 500 * time.Millisecond

func (f *faults) kill(ctx context.Context, d doing) (bool, error) {
	f.server.kill()
	pause(ctx, d.last%awayTime)
	return true, f.server.boot(ctx)
}

// ackTime is how long to wait for a submit to be accepted: there is one in that time,
// unless all submitters wait for their readers.
const ackTime = 2 * time.Second

// killAcked kills the server as soon as somebody was told that it has a job.
func (f *faults) killAcked(ctx context.Context, d doing) (bool, error) {
	select {
	case <-f.accepts: // an old one
	default:
	}
	select {
	case <-f.accepts:
	case <-time.After(ackTime):
	case <-ctx.Done():
	}
	return f.kill(ctx, d)
}

func (f *faults) stop(ctx context.Context, d doing) (bool, error) {
	if !canStop {
		return false, nil
	}
	pid := f.server.pid()
	if err := freeze(pid); err != nil {
		return false, err
	}
	pause(ctx, d.last)
	return true, thaw(pid)
}

func (f *faults) restart(ctx context.Context, d doing) (bool, error) {
	if err := f.server.stop(); err != nil {
		return false, err
	}
	pause(ctx, d.last%awayTime)
	return true, f.server.boot(ctx)
}

// cut cuts all connections, at once or behind some more bytes.
func (f *faults) cut(_ context.Context, d doing) (bool, error) {
	if d.name == cut {
		d.n = 0
	}
	f.line.cut(d.n)
	return true, nil
}

// command returns one of the commands that the server runs; 0: there is none.
func (f *faults) command(d doing) int {
	list := children(f.server.pid())
	if len(list) == 0 {
		return 0
	}
	return list[d.n%len(list)]
}

func (f *faults) killCommand(_ context.Context, d doing) (bool, error) {
	pid := f.command(d)
	return pid > 0 && killProcess(pid) == nil, nil // it may have ended meanwhile
}

func (f *faults) freezeCommand(ctx context.Context, d doing) (bool, error) {
	pid := f.command(d)
	if pid == 0 || freeze(pid) != nil {
		return false, nil
	}
	pause(ctx, d.last)
	_ = thaw(pid)
	return true, nil
}

func (f *faults) cutUpstream(context.Context, doing) (bool, error) {
	f.up.cutAll()
	return true, nil
}

func (f *faults) freezeUpstream(ctx context.Context, d doing) (bool, error) {
	thaw := f.up.freeze()
	pause(ctx, d.last)
	thaw()
	return true, nil
}

// sickSize is how far files may be written while the disk is sick: less than any file
// that the store has.
const sickSize = 1

// sickDisk lets all that the server writes to files fail for a while. It has to outlive
// that: a server that ends itself is a surprise, if one that is started again.
func (f *faults) sickDisk(ctx context.Context, d doing) (bool, error) {
	if !canLimit {
		return false, nil
	}
	pid := f.server.pid()
	if err := limitFiles(pid, sickSize); err != nil {
		return false, fmt.Errorf("limit of files: %w", err)
	}
	pause(ctx, d.last)
	if !f.server.alive() {
		return true, nil
	}
	return true, limitFiles(pid, 0)
}

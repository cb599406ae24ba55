package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// finished puts a job that is over in line for the archive. b.mu is held, or
// nobody else is there yet.
func (b *Broker) finished(e *entry) {
	b.over = append(b.over, e)
	b.archiveSoon()
}

func (b *Broker) archiveSoon() {
	select {
	case b.overCh <- struct{}{}:
	default:
	}
}

// archiveAll archives what is over, until the broker ends.
func (b *Broker) archiveAll() {
	t := time.NewTicker(purgeTime)
	defer t.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.overCh:
			b.archiveOver()
		case <-t.C:
			b.moveOld()
			b.purgeBehind()
		}
	}
}

// archiveOver archives all that are in line. One that fails stays in line, and
// holds up no other: the next tick of the purge brings it back. One that is damaged
// leaves it: it will not get better.
func (b *Broker) archiveOver() {
	b.mu.Lock()
	over := b.over
	b.over = nil
	b.mu.Unlock()
	var left []*entry
	var why error
	for _, e := range over {
		err := b.archive(e)
		switch {
		case err == nil:
		case errors.Is(err, errDamaged):
			b.spoil(e, err)
		default:
			left, why = append(left, e), err
		}
	}
	if why != nil && b.ctx.Err() == nil { // one line, however many they are
		b.log.Error("jobs not archived yet", zap.Int("jobs", len(left)), zap.Error(why))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = append(b.over, left...)
}

// spoil marks a job as damaged: it is kept in the log and not served. Nothing is
// deleted that might be mended.
func (b *Broker) spoil(e *entry, err error) {
	b.log.Error("damaged job", zap.String("job", string(e.job.ID)), zap.Uint64("position", e.tail), zap.Error(err))
	b.mu.Lock()
	defer b.mu.Unlock()
	e.damaged = err
}

// archive packs one job that is over into DONE and forgets it here.
func (b *Broker) archive(e *entry) error {
	if left := time.Until(e.job.ExpiresAt); left > 0 {
		if err := b.putAway(e, left); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(e)
	return nil
}

// putAway writes the parts of a job that is over and then its head. Nobody changes
// the entry any more.
func (b *Broker) putAway(e *entry, ttl time.Duration) error {
	p := packing{store: b.store, ctx: b.ctx, name: string(e.job.ID), ttl: ttl + partsOutlive, check: true}
	if err := b.repack(&p, e); err != nil {
		return err
	}
	a := archive{Job: e.job}
	var err error
	if a.Parts, a.pack, err = p.end(); err != nil {
		return err
	}
	return b.store.put(b.ctx, string(e.job.ID), a.encode(), ttl)
}

// repack adds all that there is of a job to p: what was moved, and then what is
// in the log.
func (b *Broker) repack(p *packing, e *entry) error {
	if e.moved > 0 {
		a, err := b.partRecord(p.ctx, e.subject, e.moved)
		if err == nil {
			err = p.begin(e.subject, a)
		}
		if err != nil {
			return err
		}
	}
	return b.packMessages(p, e.subject, e.messages)
}

func (b *Broker) packMessages(p *packing, subject string, messages []kept) error {
	for _, k := range messages {
		s, err := b.load1(p.ctx, subject, k)
		if errors.Is(err, errNone) {
			err = errMissing // it is not purged before it is packed
		}
		if err == nil {
			err = p.add(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// packing packs a job's messages, in parts once they are many.
type packing struct {
	store store
	ctx   context.Context
	name  string        // of the job
	ttl   time.Duration // of the parts; 0: for ever
	check bool          // damaged messages are refused: the originals are all there is

	parts []part
	made  int // how many of them are new
	chunk []stored
	size  int
}

// begin starts with what was packed before.
func (p *packing) begin(subject string, a *archive) error {
	p.parts = slices.Clone(a.Parts)
	if len(a.Parts) > 0 {
		return p.keepParts()
	}
	messages, err := unpack(subject, a.pack)
	if err != nil {
		return err
	}
	for _, s := range messages {
		if err := p.add(s); err != nil {
			return err
		}
	}
	return nil
}

// keepParts gives the parts that are there the time that they are to be kept.
func (p *packing) keepParts() error {
	if p.ttl == 0 {
		return nil // they are kept for ever
	}
	for n := range p.parts {
		name := partName(p.name, n)
		body, err := p.store.archived(p.ctx, name)
		if errors.Is(err, errNone) {
			err = errMissing
		}
		if err == nil {
			err = p.store.put(p.ctx, name, body, p.ttl)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dismiss lets the new parts expire: nobody will read them.
func (p *packing) dismiss() error {
	for n := range p.made {
		if err := p.store.put(p.ctx, partName(p.name, len(p.parts)-1-n), nil, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// partName returns the name of a job's n-th part in the archive.
func partName(id string, n int) string { return id + "." + strconv.Itoa(n) }

// parsePart reads a name that partName made.
func parsePart(name string) (id job.ID, n int, ok bool) {
	head, tail, _ := strings.Cut(name, ".")
	n, err := strconv.Atoi(tail)
	return job.ID(head), n, err == nil
}

func (p *packing) add(s stored) error {
	if p.check {
		if _, err := decode(s.subject, s.data); err != nil {
			return err
		}
	}
	if p.size > 0 && p.size+len(s.data) > partSize {
		if err := p.cut(); err != nil {
			return err
		}
	}
	p.chunk, p.size = append(p.chunk, s), p.size+len(s.data)
	return nil
}

// cut makes a part of what has come since the last one.
func (p *packing) cut() error {
	name := partName(p.name, len(p.parts))
	p.parts = append(p.parts, part{p.chunk[0].position})
	p.made++
	body := pack(p.chunk)
	p.chunk, p.size = nil, 0
	return p.store.put(p.ctx, name, body, p.ttl)
}

// end returns the parts, or all that was packed if that is little.
func (p *packing) end() (parts []part, rest []byte, err error) {
	if len(p.parts) == 0 {
		return nil, pack(p.chunk), nil
	}
	if p.size > 0 {
		err = p.cut()
	}
	return p.parts, nil, err
}

// load1 returns a message of the log, from memory if it is held.
func (b *Broker) load1(ctx context.Context, subject string, k kept) (stored, error) {
	if k.data != nil {
		return stored{subject, k.position, k.data}, nil
	}
	s, err := b.store.get(ctx, k.position)
	if err == nil && s.subject != subject {
		err = errNone
	}
	return s, err
}

// Archived reports whether a job that is over has left the log for the archive.
func (b *Broker) Archived(id job.ID) bool {
	b.mu.Lock()
	e := b.jobs[id]
	b.mu.Unlock()
	if e != nil {
		return false
	}
	_, err := b.fetch(b.ctx, id)
	return err == nil
}

package broker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
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

const (
	// archivers is how many jobs are archived at once: the store answers one after
	// another, but does not wait for the next question in between.
	archivers = 16
	// archiveBatch is how many are archived before the log is looked at again.
	archiveBatch = 1000
	// maxOver is how many may wait for the archive, in memory, before no more jobs are
	// taken.
	maxOver = 20_000
)

// behind reports whether the archive cannot keep up with those who submit.
func (b *Broker) behind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.over) > maxOver
}

// archiveAll archives what is over and purges behind it, until the broker ends. What
// was archived is purged two ticks later, when the archive has been synced: a loss of
// power between the two must not take both.
func (b *Broker) archiveAll() {
	t := time.NewTicker(purgeTime)
	defer t.Stop()
	var marks [2]uint64
	for {
		select {
		case <-b.sound.Done():
			return
		case <-t.C:
			b.clean()
			b.moveOld()
			b.purgeBelow(marks[0])
			marks = [2]uint64{marks[1], b.mark()}
			b.tick()
			b.replayDoubtful(b.ctx)
		case <-b.overCh:
			b.archiveOver()
		}
	}
}

// tick notes how far the log has come, and brings back what could not be archived.
func (b *Broker) tick() {
	if err := b.saveMarks(b.ctx, b.purged.Load()); err != nil && b.ctx.Err() == nil {
		b.log.Warn("the end of the log not noted", zap.Error(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.over) > 0 {
		b.archiveSoon()
	}
}

// archiveOver archives the first that are in line. One that fails stays in line, and
// holds up no other: the next tick brings it back. One that is damaged leaves it: it
// will not get better.
func (b *Broker) archiveOver() {
	var wg sync.WaitGroup
	next := make(chan *entry)
	failed := make(chan error, archiveBatch)
	for range archivers {
		wg.Go(func() {
			for e := range next {
				if err := b.archiveOne(e); err != nil {
					failed <- err
				}
			}
		})
	}
	for _, e := range b.takeOver() {
		next <- e
	}
	close(next)
	wg.Wait()
	if n := len(failed); n > 0 && b.ctx.Err() == nil { // one line, however many they are
		b.log.Error("jobs not archived yet", zap.Int("jobs", n), zap.Error(<-failed))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.over) > 0 {
		b.archiveSoon()
	}
}

// takeOver takes the first batch out of the line.
func (b *Broker) takeOver() []*entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.over), archiveBatch)
	list := slices.Clone(b.over[:n])
	b.over = slices.Delete(b.over, 0, n)
	return list
}

func (b *Broker) archiveOne(e *entry) error {
	err := b.archive(e)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errDamaged) && !errors.Is(err, errMissing):
		b.setDamaged(e, err)
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = append(b.over, e)
	return err
}

// setDamaged marks a job as damaged: it is kept in the log and not served. Nothing is
// deleted that might be mended.
func (b *Broker) setDamaged(e *entry, err error) {
	b.log.Error("damaged job", zap.String("job", string(e.job.ID)), zap.Uint64("position", e.tail), zap.Error(err))
	b.mu.Lock()
	defer b.mu.Unlock()
	e.damaged = damagedBy(err)
	b.loaded(&job.Job{ID: e.job.ID, Kind: e.job.Kind, Owner: e.job.Owner})
}

// archive packs one job that is over into DONE and forgets it here.
func (b *Broker) archive(e *entry) error {
	if err := b.leaveKey(&e.job); err != nil {
		return err
	}
	if err := b.putDown(e); err != nil {
		return err
	}
	left := time.Until(e.job.ExpiresAt)
	var err error
	switch {
	case e.job.Erased:
		err = b.removeBeside(b.ctx, &e.job)
		if e.job.Webhook != nil && err == nil {
			err = b.removeDeliveries(b.ctx, e.job.ID)
		}
	case left > 0:
		err = b.putAway(e, left)
	default:
		b.Discard(e.job.Upload)
	}
	if err != nil {
		return err
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
	place, err := b.store.place(b.ctx, string(e.job.ID), a.encode(), ttl)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.archived(&e.job, place)
	}
	return err
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

// packLook is how many bytes of messages are read at once to be packed: of each of the
// archivers it is in memory.
const packLook = 256 << 10

func (b *Broker) packMessages(p *packing, subject string, messages []kept) error {
	for len(messages) > 0 {
		n, size := 0, 0
		for n < len(messages) && n < maxStretch && (n == 0 || size < packLook) {
			size += int(messages[n].size)
			n++
		}
		all, err := b.messagesOf(p.ctx, stretch{subject: subject, messages: messages[:n]}, 0)
		if missing := (*missingError)(nil); errors.As(err, &missing) {
			err = errMissing // it is not purged before it is packed, so it could not be read
		}
		if err != nil {
			return err
		}
		for _, s := range all {
			if err := p.add(s); err != nil {
				return err
			}
		}
		messages = messages[n:]
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
		if _, _, err := intact(s.subject, s.data); err != nil {
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
	if len(p.parts) == 0 && p.size <= partSize {
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

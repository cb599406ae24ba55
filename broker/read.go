package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millstream/millstream/pkg/job"
)

// errPurged says that a message was archived while it was looked for.
var errPurged = errors.New("the message has moved to the archive")

// errMissing is the error of a message that is not where it must be.
var errMissing = fmt.Errorf("%w: a message of it is missing", errDamaged)

// fetch returns the archive entry of a finished job, or job.ErrNotFound.
func (b *Broker) fetch(ctx context.Context, id job.ID) (*archive, error) {
	data, err := b.store.archived(ctx, string(id))
	switch {
	case errors.Is(err, errNone):
		return nil, job.ErrNotFound
	case err != nil:
		return nil, err
	}
	a, err := decodeArchive(string(id), data)
	if err != nil {
		return nil, unavailable(err)
	}
	return a, nil
}

// each calls do with the messages of a job that lie behind position, in order,
// until do returns false. Live or finished makes no difference.
func (b *Broker) each(ctx context.Context, id job.ID, position uint64, do func(position uint64, m *frame) bool) error {
	last := position
	note := func(p uint64, m *frame) bool { last = p; return do(p, m) }
	err := b.eachLive(ctx, id, last, note)
	if errors.Is(err, errPurged) {
		return b.eachArchived(ctx, id, last, note)
	}
	return err
}

// stretch is some of a live job: where the messages behind a position lie, or the
// part record that has them.
type stretch struct {
	subject  string
	moved    uint64 // position of the part record; 0: the messages are in the log
	messages []kept
}

// maxStretch is how many messages of a live job are looked at under one lock.
const maxStretch = 256

func (b *Broker) eachLive(ctx context.Context, id job.ID, position uint64, do func(uint64, *frame) bool) error {
	for {
		s, err := b.stretchBehind(id, position)
		if err != nil || s.moved == 0 && len(s.messages) == 0 {
			return err
		}
		var more bool
		if s.moved > 0 {
			more, err = b.eachMoved(ctx, s, &position, do)
		} else {
			more, err = b.eachIn(ctx, s, &position, do)
		}
		if missing := (*missingError)(nil); errors.As(err, &missing) {
			if b.gone(id, missing.position) {
				continue // it has just been moved, or archived
			}
			err = unavailable(errMissing)
		}
		if err != nil || !more {
			return err
		}
	}
}

// eachIn passes on the messages of s and takes position along.
func (b *Broker) eachIn(ctx context.Context, s stretch, position *uint64, do func(uint64, *frame) bool) (more bool, err error) {
	for _, k := range s.messages {
		m, err := b.load1(ctx, s.subject, k)
		if err != nil {
			return false, missingAt(k.position, err)
		}
		alone := func(position uint64, m *frame) bool { m.alone = k.data == nil; return do(position, m) }
		if more, err := pass(m, alone); err != nil || !more {
			return false, err
		}
		*position = k.position
	}
	return true, nil
}

// eachMoved passes on the messages that s's part record has, and takes position
// behind it.
func (b *Broker) eachMoved(ctx context.Context, s stretch, position *uint64, do func(uint64, *frame) bool) (more bool, err error) {
	a, err := b.partRecord(ctx, s.subject, s.moved)
	if err != nil {
		return false, missingAt(s.moved, err)
	}
	more, err = b.eachPacked(ctx, s.subject, a, *position, do)
	*position = s.moved
	return more, err
}

// missingError says where there was no message.
type missingError struct{ position uint64 }

func (e *missingError) Error() string { return fmt.Sprintf("no message at position %d", e.position) }

func missingAt(position uint64, err error) error {
	if errors.Is(err, errNone) {
		return &missingError{position}
	}
	return err
}

// gone reports whether the log no longer has what it had at position of a job.
func (b *Broker) gone(id job.ID, position uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	return e == nil || e.floor > position
}

// stretchBehind returns the next stretch of a job in the log; errPurged: the job is
// not there.
func (b *Broker) stretchBehind(id job.ID, position uint64) (stretch, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	switch {
	case e != nil && e.damaged != nil:
		return stretch{}, unavailable(e.damaged)
	case e == nil || !e.job.Exists():
		return stretch{}, errPurged
	case position < e.moved:
		return stretch{subject: e.subject, moved: e.moved}, nil
	}
	i, _ := slices.BinarySearchFunc(e.messages, position+1, func(k kept, p uint64) int { return cmp.Compare(k.position, p) })
	end := min(i+maxStretch, len(e.messages))
	return stretch{subject: e.subject, messages: slices.Clone(e.messages[i:end])}, nil
}

func (b *Broker) eachArchived(ctx context.Context, id job.ID, position uint64, do func(uint64, *frame) bool) error {
	a, err := b.fetch(ctx, id)
	if err != nil {
		return err
	}
	_, err = b.eachPacked(ctx, subjectOf(a.Job.Kind, id), a, position, do)
	return err
}

// eachPacked passes on the messages of a that lie behind position.
func (b *Broker) eachPacked(ctx context.Context, subject string, a *archive, position uint64, do func(uint64, *frame) bool) (more bool, err error) {
	if len(a.Parts) == 0 {
		return passPack(subject, a.pack, position, do)
	}
	for n := range a.Parts {
		if n+1 < len(a.Parts) && a.Parts[n+1].Position <= position {
			continue
		}
		body, err := b.store.archived(ctx, partName(string(a.Job.ID), n))
		if err != nil {
			return false, unavailable(fmt.Errorf("part %d of job %s: %w", n, a.Job.ID, err))
		}
		if more, err := passPack(subject, body, position, do); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func passPack(subject string, body []byte, position uint64, do func(uint64, *frame) bool) (more bool, err error) {
	messages, err := unpack(subject, body)
	if err != nil {
		return false, unavailable(err)
	}
	for _, s := range messages {
		if s.position <= position {
			continue
		}
		if more, err := pass(s, do); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

func pass(s stored, do func(uint64, *frame) bool) (more bool, err error) {
	m, err := decode(s.subject, s.data)
	if err != nil {
		return false, unavailable(err)
	}
	return do(s.position, m), nil
}

const (
	// historyBytes bounds what one History holds in memory: more than most jobs have.
	historyBytes = 128 << 10
	// historyReads bounds how many questions to the store one takes: a reader waits for
	// the first event, and comes back for more.
	historyReads = 16
)

// History returns events of a job behind the cursor, oldest first: some, not
// necessarily all. None: the cursor is at the end. job.ErrCursor: the cursor names
// no event of the job; job.ErrNotFound: there is no such job.
func (b *Broker) History(ctx context.Context, id job.ID, after job.Cursor) ([]job.Event, error) {
	var events []job.Event
	size, reads, found := 0, 0, after.Start()
	from := uint64(0)
	if after.Position > 0 {
		from = after.Position - 1 // the message with the cursor's own record comes too
	}
	err := b.each(ctx, id, from, func(position uint64, m *frame) bool {
		for _, e := range m.events(position) {
			switch {
			case e.Cursor() == after:
				found = true
			case !found && position != after.Position: // it would have been here
				return false
			case found:
				events = append(events, e)
				size += len(e.Data)
			case e.Seq > after.Seq: // it would have come by now
				return false
			}
		}
		if m.alone {
			reads++
		}
		return size < historyBytes && (reads < historyReads || len(events) == 0)
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, job.ErrCursor
	}
	return events, nil
}

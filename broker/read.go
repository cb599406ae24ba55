package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/millstream/millstream/pkg/job"
)

// errPurged says that a message was archived while it was looked for.
var errPurged = errors.New("the message has moved to the archive")

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

// stretch is how many messages of a live job are looked at under one lock.
const stretch = 256

func (b *Broker) eachLive(ctx context.Context, id job.ID, position uint64, do func(uint64, *frame) bool) error {
	for {
		messages, subject, ok := b.stretchBehind(id, position)
		if !ok {
			return errPurged
		}
		if len(messages) == 0 {
			return nil
		}
		for _, k := range messages {
			s, err := b.load1(ctx, subject, k)
			if errors.Is(err, errNone) {
				return errPurged
			}
			if err != nil {
				return err
			}
			if more, err := pass(s, do); err != nil || !more {
				return err
			}
			position = k.position
		}
	}
}

// stretchBehind returns where the next messages of a job in the log lie; ok false:
// the job is not there.
func (b *Broker) stretchBehind(id job.ID, position uint64) (messages []kept, subject string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil || !e.job.Exists() {
		return nil, "", false
	}
	i, _ := slices.BinarySearchFunc(e.messages, position+1, func(k kept, p uint64) int { return cmp.Compare(k.position, p) })
	end := min(i+stretch, len(e.messages))
	return slices.Clone(e.messages[i:end]), e.subject, true
}

func (b *Broker) eachArchived(ctx context.Context, id job.ID, position uint64, do func(uint64, *frame) bool) error {
	a, err := b.fetch(ctx, id)
	if err != nil {
		return err
	}
	subject := subjectOf(a.Job.Kind, id)
	if len(a.Parts) == 0 {
		_, err := passPack(subject, a.pack, position, do)
		return err
	}
	for n := range a.Parts {
		if n+1 < len(a.Parts) && a.Parts[n+1].Position <= position {
			continue
		}
		body, err := b.store.archived(ctx, string(id)+"."+strconv.Itoa(n))
		if err != nil {
			return unavailable(fmt.Errorf("part %d of job %s: %w", n, id, err))
		}
		if more, err := passPack(subject, body, position, do); err != nil || !more {
			return err
		}
	}
	return nil
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

// historyBytes bounds what one History holds in memory: more than most jobs have.
const historyBytes = 256 << 10

// History returns events of a job behind the cursor, oldest first: some, not
// necessarily all. None: the cursor is at the end. job.ErrCursor: the cursor names
// no event of the job; job.ErrNotFound: there is no such job.
func (b *Broker) History(ctx context.Context, id job.ID, after job.Cursor) ([]job.Event, error) {
	var events []job.Event
	size, found := 0, after.Start()
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
		return size < historyBytes
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, job.ErrCursor
	}
	return events, nil
}

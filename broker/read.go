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
	switch {
	case err != nil:
		return nil, unavailable(err)
	case a.Job.Erased:
		return nil, job.ErrNotFound
	}
	return a, nil
}

// each calls do with the messages of a job that lie behind position, in order,
// until do returns false. Live or finished makes no difference. Of a live job about
// ahead bytes are read at once.
func (b *Broker) each(ctx context.Context, id job.ID, position uint64, ahead int, do func(position uint64, m *frame) bool) error {
	for more := true; more; {
		messages, err := b.some(ctx, id, position, ahead)
		if err == nil {
			position, more, err = pass(messages, do)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pass calls do with the messages until it returns false, and returns the position of
// the last one. There are no more if there were none.
func pass(messages []stored, do func(uint64, *frame) bool) (last uint64, more bool, err error) {
	for _, s := range messages {
		m, err := decode(s.subject, s.data)
		if err != nil {
			return 0, false, unavailable(err)
		}
		if last = s.position; !do(last, m) {
			return last, false, nil
		}
	}
	return last, len(messages) > 0, nil
}

// some returns the next messages of a job behind position: those that one look at the
// store brings, none if there are no more.
func (b *Broker) some(ctx context.Context, id job.ID, position uint64, ahead int) ([]stored, error) {
	messages, err := b.someLive(ctx, id, position, ahead)
	if errors.Is(err, errPurged) {
		return b.someArchived(ctx, id, position)
	}
	return messages, err
}

func (b *Broker) someLive(ctx context.Context, id job.ID, position uint64, ahead int) ([]stored, error) {
	for {
		s, err := b.stretchBehind(id, position, ahead)
		if err != nil || s.moved == 0 && len(s.messages) == 0 {
			return nil, err
		}
		messages, err := b.messagesOf(ctx, s, position)
		missing := (*missingError)(nil)
		switch {
		case errors.As(err, &missing) && b.gone(id, missing.position):
			continue // it has just been moved, or archived
		case missing != nil:
			return nil, unavailable(errMissing)
		case err != nil || len(messages) > 0:
			return messages, err
		}
		position = s.moved // which has no more
	}
}

// stretch is some of a live job: where the next messages lie, or the part record that
// has them.
type stretch struct {
	subject  string
	moved    uint64 // position of the part record; 0: the messages are in the log
	messages []kept
}

// maxStretch is how many messages of a live job are read at once: more are not faster,
// and keep those waiting who ask the store at the same time.
const maxStretch = 256

// messagesOf reads the messages of s that lie behind position.
func (b *Broker) messagesOf(ctx context.Context, s stretch, position uint64) ([]stored, error) {
	if s.moved > 0 {
		a, err := b.partRecord(ctx, s.subject, s.moved)
		if err != nil {
			return nil, missingAt(s.moved, err)
		}
		return b.somePacked(ctx, s.subject, a, position)
	}
	messages := b.lookUp(ctx, s)
	for i, k := range s.messages {
		if messages[i].position == k.position && messages[i].subject == s.subject {
			continue
		}
		var err error
		if messages[i], err = b.load1(ctx, s.subject, k); err != nil {
			return nil, missingAt(k.position, err)
		}
	}
	return messages, nil
}

// lookUp returns what the store finds at once of the messages of s that are not held.
func (b *Broker) lookUp(ctx context.Context, s stretch) []stored {
	messages := make([]stored, len(s.messages))
	var positions []uint64
	var places []int
	for i, k := range s.messages {
		if k.data == nil {
			positions, places = append(positions, k.position), append(places, i)
		}
	}
	if len(positions) > 0 {
		for i, m := range b.store.several(ctx, positions) {
			messages[places[i]] = m
		}
	}
	return messages
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

// stretchBehind returns the next stretch of a job in the log, of about ahead bytes;
// errPurged: the job is not there.
func (b *Broker) stretchBehind(id job.ID, position uint64, ahead int) (stretch, error) {
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
	rest := e.messages[i:]
	n := 0
	for ; n < min(len(rest), maxStretch) && (n == 0 || rest[n].size <= ahead); n++ {
		ahead -= rest[n].size
	}
	return stretch{subject: e.subject, messages: slices.Clone(rest[:n])}, nil
}

func (b *Broker) someArchived(ctx context.Context, id job.ID, position uint64) ([]stored, error) {
	a, err := b.fetch(ctx, id)
	if err != nil || position >= a.Job.Cursor.Position {
		return nil, err
	}
	return b.somePacked(ctx, subjectOf(a.Job.Kind, id), a, position)
}

// somePacked returns the messages of a that lie behind position, of the first part that
// has any.
func (b *Broker) somePacked(ctx context.Context, subject string, a *archive, position uint64) ([]stored, error) {
	if len(a.Parts) == 0 {
		return unpackBehind(subject, a.pack, position)
	}
	for n := range a.Parts {
		if n+1 < len(a.Parts) && a.Parts[n+1].Position <= position+1 {
			continue
		}
		body, err := b.store.archived(ctx, partName(string(a.Job.ID), n))
		if errors.Is(err, errNone) {
			err = damagedBy(err)
		}
		if err != nil {
			return nil, unavailable(fmt.Errorf("part %d of job %s: %w", n, a.Job.ID, err))
		}
		if messages, err := unpackBehind(subject, body, position); err != nil || len(messages) > 0 {
			return messages, err
		}
	}
	return nil, nil
}

func unpackBehind(subject string, body []byte, position uint64) ([]stored, error) {
	messages, err := unpack(subject, body)
	if err != nil {
		return nil, unavailable(err)
	}
	i, _ := slices.BinarySearchFunc(messages, position+1, func(s stored, p uint64) int { return cmp.Compare(s.position, p) })
	return messages[i:], nil
}

// lookShare is the share of a page that is read of a live job: there each message is a
// question of its own, while a part of a finished one is read as a whole.
const lookShare = 8

// page is what one History returns.
type page struct {
	after  job.Cursor
	found  bool // the record that after names
	events []job.Event
	room   int // bytes of events that it takes yet
}

// History returns events of a job behind the cursor, oldest first: some, not
// necessarily all. It takes as few looks at the store as bring any, and no more events
// once they have size bytes. None: the cursor is at the end. job.ErrCursor: the cursor
// names no event of the job; job.ErrNotFound: there is no such job.
func (b *Broker) History(ctx context.Context, id job.ID, after job.Cursor, size int) ([]job.Event, error) {
	p := page{after: after, found: after.Start(), room: size}
	from := uint64(0)
	if after.Position > 0 {
		from = after.Position - 1 // the message with the cursor's own record comes too
	}
	for more := true; more && len(p.events) == 0; {
		messages, err := b.some(ctx, id, from, size/lookShare)
		if err == nil {
			from, more, err = pass(messages, p.take)
		}
		if err != nil {
			return nil, err
		}
	}
	if !p.found {
		return nil, job.ErrCursor
	}
	return p.events, nil
}

// take adds the events of a message, and reports whether the next one is wanted.
func (p *page) take(position uint64, m *frame) bool {
	for _, e := range m.events(position) {
		switch {
		case e.Cursor() == p.after:
			p.found = true
		case !p.found && position != p.after.Position: // it would have been here
			return false
		case p.found:
			p.events = append(p.events, e)
			p.room -= len(e.Data) + recordSize
		case e.Seq > p.after.Seq: // it would have come by now
			return false
		}
	}
	return p.room > 0
}

// Behind returns events of a job that lie behind a place of the log, whosever that is, as
// History does. None: there are no more. Of a job that is erased, and not over yet, there are none
// either: job.ErrNotFound.
func (b *Broker) Behind(ctx context.Context, id job.ID, at job.Cursor, size int) ([]job.Event, error) {
	if j, _ := b.standing(id); j.Erased {
		return nil, job.ErrNotFound
	}
	p := stretchOf{at: at, room: size}
	from := uint64(0)
	if at.Position > 0 {
		from = at.Position - 1 // the message at that place may have more
	}
	for more := true; more && len(p.events) == 0; {
		messages, err := b.some(ctx, id, from, size/lookShare)
		if err == nil {
			from, more, err = pass(messages, p.take)
		}
		if err != nil {
			return nil, err
		}
	}
	return p.events, nil
}

// stretchOf is what one Behind returns.
type stretchOf struct {
	at     job.Cursor
	events []job.Event
	room   int
}

func (p *stretchOf) take(position uint64, m *frame) bool {
	for _, e := range m.events(position) {
		if e.Cursor().Behind(p.at) {
			p.events = append(p.events, e)
			p.room -= len(e.Data) + recordSize
		}
	}
	return p.room > 0
}

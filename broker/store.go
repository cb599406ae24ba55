package broker

import (
	"context"
	"errors"
	"time"
)

// store keeps messages. There are two: JetStream, embedded or remote, and memory;
// brokertest holds both to the same behaviour. Positions grow by one with every
// message of the log and are never used twice, also after a purge to nothing.
type store interface {
	// publish stores data as the subject's next message in the log if the
	// subject's last one is at fence (0: it has none). done is called once with the
	// verdict: a position, errRefused, errClosed (nobody knows), or an error that says
	// that nothing was stored. Verdicts with positions come from one goroutine, in
	// the order of positions.
	publish(subject string, fence uint64, data []byte, done func(position uint64, err error))
	// get returns the message of the log at position; errNone if there is none. It asks
	// the leader.
	get(ctx context.Context, position uint64) (stored, error)
	// several returns what it finds, at once, of the messages at positions, in their
	// order, and a zero for what it does not. That is no verdict: get has the last word.
	several(ctx context.Context, positions []uint64) []stored
	// next returns the subject's first message at or behind position; errNone. It
	// asks the leader. A store that cannot read at all (no file can be opened) may say
	// errNone as well: before much is made of it, has is to be asked.
	next(ctx context.Context, subject string, position uint64) (stored, error)
	// has reports whether the log has messages of the subject, without reading them.
	has(ctx context.Context, subject string) (bool, error)
	// scan calls each with every message of the log, in order, and returns the
	// position that the log begins at, and that of the last one ever stored.
	scan(ctx context.Context, each func(stored)) (first, last uint64, err error)
	// sync returns once what was stored before, however, outlives whatever this store
	// promises to outlive; publish does so by itself.
	sync(ctx context.Context) error
	// purge removes all messages below position.
	purge(ctx context.Context, below uint64) error

	// put keeps data under name in the archive for ttl, in place of what was there; ttl
	// 0: for ever.
	put(ctx context.Context, name string, data []byte, ttl time.Duration) error
	// archived returns what put kept under name; errNone.
	archived(ctx context.Context, name string) ([]byte, error)
	// place is put, and returns the place where the data is; 0: nowhere in particular.
	place(ctx context.Context, name string, data []byte, ttl time.Duration) (uint64, error)
	// placed returns what place kept at a place; errNone: it is not there, or no longer. A
	// store reads what lies side by side with less work and memory than by name.
	placed(ctx context.Context, name string, place uint64) ([]byte, error)
	// remove removes what the archive has under all names that are prefix and more
	// tokens.
	remove(ctx context.Context, prefix string) error
	// scanArchive calls each with all entries whose name has no dot, and returns the place
	// of the last entry ever put; 0: places are not counted.
	scanArchive(ctx context.Context, each func(stored)) (last uint64, err error)
	// names returns the names that have as many tokens as the pattern, and the same; a
	// token * is any.
	names(ctx context.Context, pattern string) ([]string, error)

	// key returns what setKey keeps of an idempotency key; errNone.
	key(ctx context.Context, name string) ([]byte, error)
	// setKey keeps data of a key for ttl and returns its place; fresh fails with errRefused
	// if there is any.
	setKey(ctx context.Context, name string, data []byte, ttl time.Duration, fresh bool) (uint64, error)
	// keys returns the place of the last data ever kept of a key, and of how many keys
	// there is some.
	keys(ctx context.Context) (last uint64, count int, err error)
	dropKey(ctx context.Context, name string) error

	// setDelivery keeps data of a delivery under name for ttl, in place of what was there, and
	// returns its place; ttl 0: for ever. It fails with errRefused if it is not as was says;
	// nil: however it is.
	setDelivery(ctx context.Context, name string, data []byte, ttl time.Duration, was *seen) (uint64, error)
	// delivery returns what setDelivery keeps under name, and its place; errNone.
	delivery(ctx context.Context, name string) (stored, error)
	// deliveries calls each with all entries whose names have as many tokens as the pattern,
	// and the same; a token * is any. It returns the place of the last entry ever kept.
	deliveries(ctx context.Context, pattern string, each func(stored)) (last uint64, err error)
	// dropDeliveries removes those.
	dropDeliveries(ctx context.Context, pattern string) error

	// setting returns a small value that outlives the process; errNone.
	setting(ctx context.Context, key string) ([]byte, error)
	// set stores a setting; create fails with errRefused if there is one already.
	set(ctx context.Context, key string, value []byte, create bool) error

	// usage returns the bytes it keeps and how many it may; limit 0: as many as it
	// gets.
	usage(ctx context.Context) (used, limit int64, err error)

	// full reports whether a write has failed for want of space, since when there are none:
	// usage may not have told yet. To ask is to want it healed.
	full() bool

	// damage returns how much was found damaged, and reported, when it was opened.
	damage() int

	// heal mends what ails the store, if it knows how to.
	heal(ctx context.Context) error

	// maxMessage is the size of the largest message it takes.
	maxMessage() int
	close()
}

// stored is a message where it lies.
type stored struct {
	subject  string // of the log, or name in the archive
	position uint64
	data     []byte
}

var (
	errNone    = errors.New("no such message")
	errRefused = errors.New("the expected last message is not the last")
	errClosed  = errors.New("the store is closed")
)

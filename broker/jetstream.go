package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams, and the bucket of settings. JOBS has the messages of live jobs,
// DONE one packed message a finished one, KEYS one an idempotency key, HOOKS one a delivery. None has a MaxAge: a subject that ages
// out would break the fence, and a finished job carries its own TTL.
const (
	jobsStream     = "JOBS"
	doneStream     = "DONE"
	settingsBucket = "MILLSTREAM"
	donePrefix     = "done."
	keysStream     = "KEYS"
	keysPrefix     = "keys."
	hooksStream    = "HOOKS"
	hooksPrefix    = "hooks."
)

// jetStream is a store on a JetStream server.
type jetStream struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	jobs     jetstream.Stream
	direct   bool // jobs is read at askAny
	done     jetstream.Stream
	keyed    jetstream.Stream
	hooks    jetstream.Stream
	settings jetstream.KeyValue
	acks     *acks
	stop     func()      // what to shut down behind the connection; may be nil
	embedded *embedded   // nil: the server is somebody else's
	sick     atomic.Bool // a write was not answered
	syncer   *syncer     // nil: what is acknowledged is as durable as it gets
	spoiled  atomic.Pointer[error]
	found    int  // damage, when it was opened
	sound    bool // the archive was looked through then
}

// newJetStream makes the streams on the server behind nc, if they are not there. e is the
// server if it is our own.
func newJetStream(ctx context.Context, nc *nats.Conn, e *embedded) (*jetStream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	s := &jetStream{nc: nc, js: js, embedded: e}
	for _, c := range []struct {
		stream *jetstream.Stream
		config jetstream.StreamConfig
	}{
		{&s.jobs, jetstream.StreamConfig{Name: jobsStream, Subjects: []string{"jobs.>"}, AllowDirect: true, Duplicates: time.Second}}, // no message ids are used
		{&s.done, jetstream.StreamConfig{Name: doneStream, Subjects: []string{donePrefix + ">"}, MaxMsgsPerSubject: 1, AllowMsgTTL: true, AllowDirect: true, Duplicates: time.Second}},
		{&s.keyed, jetstream.StreamConfig{Name: keysStream, Subjects: []string{keysPrefix + "*"}, MaxMsgsPerSubject: 1, AllowMsgTTL: true, Duplicates: time.Second}},
		{&s.hooks, jetstream.StreamConfig{Name: hooksStream, Subjects: []string{hooksPrefix + "*.*.*"}, MaxMsgsPerSubject: 1, AllowMsgTTL: true, Duplicates: time.Second}},
	} {
		if *c.stream, err = streamOf(ctx, js, c.config); err != nil {
			return nil, fmt.Errorf("stream %s: %w", c.config.Name, err)
		}
	}
	s.allowDirect(ctx)
	if s.settings, err = bucketOf(ctx, js, settingsBucket); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", settingsBucket, err)
	}
	if s.acks, err = newAcks(nc); err != nil {
		return nil, err
	}
	return s, nil
}

// streamOf returns the stream, made anew if there is none. One that is there is
// left as it is: its replicas are the operator's.
func streamOf(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := js.Stream(ctx, c.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return js.CreateStream(ctx, c)
	}
	return s, err
}

// bucketOf returns the bucket, made anew if there is none. To update one would be a write,
// and a full disk takes none.
func bucketOf(ctx context.Context, js jetstream.JetStream, name string) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: name})
	}
	return kv, err
}

func (s *jetStream) publish(subject string, fence uint64, data []byte, done func(uint64, error)) {
	s.acks.publish(subject, fence, data, s.durable(done))
}

// durable returns done, to be called once what was acknowledged is durable.
func (s *jetStream) durable(done func(uint64, error)) func(uint64, error) {
	if s.syncer == nil {
		return done
	}
	return func(position uint64, err error) {
		if err != nil {
			done(0, err)
			return
		}
		s.syncer.after(func(err error) { done(position, err) })
	}
}

func (s *jetStream) sync(ctx context.Context) error {
	if s.syncer == nil {
		return nil
	}
	return s.syncer.wait(ctx)
}

func (s *jetStream) has(ctx context.Context, subject string) (bool, error) {
	info, err := s.jobs.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return false, unavailable(err)
	}
	return len(info.State.Subjects) > 0, nil
}

func (s *jetStream) read(m *jetstream.RawStreamMsg, err error) (stored, error) {
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return stored{}, errNone
	case err != nil:
		return stored{}, unavailable(err)
	}
	return stored{m.Subject, m.Sequence, m.Data}, nil
}

func (s *jetStream) purge(ctx context.Context, below uint64) error {
	if err := s.spoil(nil); err != nil {
		return unavailable(err)
	}
	return unavailable(s.jobs.Purge(ctx, jetstream.WithPurgeSequence(below)))
}

func (s *jetStream) put(ctx context.Context, name string, data []byte, ttl time.Duration) error {
	_, err := s.place(ctx, name, data, ttl)
	return err
}

func (s *jetStream) place(ctx context.Context, name string, data []byte, ttl time.Duration) (uint64, error) {
	return s.store(ctx, donePrefix+name, data, ttl)
}

// store stores data beside the log, for ttl; 0: for ever.
func (s *jetStream) store(ctx context.Context, subject string, data []byte, ttl time.Duration, opts ...jetstream.PublishOpt) (uint64, error) {
	if err := s.spoil(nil); err != nil {
		return 0, unavailable(err)
	}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL((ttl + time.Second - 1).Truncate(time.Second))) // the server counts in whole seconds
	}
	ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, opts...)
	if err != nil {
		return 0, s.written(ctx, err)
	}
	return ack.Sequence, nil
}

func (s *jetStream) key(ctx context.Context, name string) ([]byte, error) {
	m, err := s.last(ctx, s.keyed, keysPrefix+name)
	return m.data, err
}

func (s *jetStream) setKey(ctx context.Context, name string, data []byte, ttl time.Duration, fresh bool) (uint64, error) {
	var opts []jetstream.PublishOpt
	if fresh {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(0))
	}
	return s.store(ctx, keysPrefix+name, data, max(ttl, time.Second), opts...)
}

func (s *jetStream) keys(ctx context.Context) (last uint64, count int, err error) {
	info, err := s.keyed.Info(ctx)
	if err != nil {
		return 0, 0, unavailable(err)
	}
	return info.State.LastSeq, int(info.State.Msgs), nil
}

func (s *jetStream) dropKey(ctx context.Context, name string) error {
	return unavailable(s.keyed.Purge(ctx, jetstream.WithPurgeSubject(keysPrefix+name)))
}

func (s *jetStream) placed(ctx context.Context, name string, place uint64) ([]byte, error) {
	m, err := s.read(s.done.GetMsg(ctx, place))
	if err == nil && m.subject != donePrefix+name {
		err = errNone
	}
	return m.data, err
}

func (s *jetStream) remove(ctx context.Context, prefix string) error {
	return unavailable(s.done.Purge(ctx, jetstream.WithPurgeSubject(donePrefix+prefix+".>")))
}

func (s *jetStream) names(ctx context.Context, pattern string) (names []string, err error) {
	info, err := s.done.Info(ctx, jetstream.WithSubjectFilter(donePrefix+pattern))
	if err != nil {
		return nil, unavailable(err)
	}
	for subject := range info.State.Subjects {
		names = append(names, subject[len(donePrefix):])
	}
	return names, nil
}

func (s *jetStream) archived(ctx context.Context, name string) ([]byte, error) {
	m, err := s.read(s.done.GetLastMsgForSubject(ctx, donePrefix+name))
	return m.data, err
}

func (s *jetStream) setting(ctx context.Context, key string) ([]byte, error) {
	e, err := s.settings.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, errNone
	case err != nil:
		return nil, unavailable(err)
	}
	return unseal(key, e.Value())
}

func (s *jetStream) set(ctx context.Context, key string, value []byte, create bool) error {
	if err := s.spoil(nil); err != nil {
		return unavailable(err) // who asks whether we are ready must hear it
	}
	if s.embedded != nil && s.embedded.failed.Load() {
		s.sick.Store(true)
		return unavailable(errors.New("a write has failed")) // another stream may not know yet
	}
	var err error
	value = seal(key, value)
	if create {
		_, err = s.settings.Create(ctx, key, value)
	} else {
		_, err = s.settings.Put(ctx, key, value)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return errRefused
	}
	return s.written(ctx, err)
}

// written takes note of a write that had no answer and returns the verdict.
func (s *jetStream) written(ctx context.Context, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		s.sick.Store(true)
	}
	return verdict(err)
}

// errSpoiled is the error of a store that must not be written to before it was folded
// again, by another process.
var errSpoiled = errors.New("the store has to be opened anew")

// errLost says that positions would come twice.
var errLost = fmt.Errorf("%w: it has forgotten what it acknowledged", errSpoiled)

// spoil says that nothing must be written any more, if why is not nil, and returns the
// first reason that was given.
func (s *jetStream) spoil(why error) error {
	if why != nil {
		s.spoiled.CompareAndSwap(nil, &why)
	}
	if first := s.spoiled.Load(); first != nil {
		return *first
	}
	return nil
}

// heal starts the embedded server anew if it answers no writes since one has failed.
// What was published is repeated behind its fences, so nobody notices; but not before
// the log is seen to have all that was acknowledged, else its positions would be given
// a second time.
func (s *jetStream) heal(ctx context.Context) error {
	if err := s.spoil(nil); err != nil {
		return err
	}
	if s.embedded == nil || !s.sick.Load() && s.acks.oldest() < 2*answerTime || !s.embedded.mayRestart(time.Now()) {
		return nil
	}
	s.sick.Store(false)
	s.acks.pause()
	acked := s.acks.highest()
	err := s.embedded.restart()
	var last uint64
	if err == nil {
		last, err = s.lastOf(ctx)
	}
	switch {
	case err != nil: // to be tried again
		s.sick.Store(true)
		s.embedded.failed.Store(true)
		return err
	case last < acked:
		return s.spoil(fmt.Errorf("%w: it ends at position %d, and was at %d", errLost, last, acked))
	}
	s.acks.repeat()
	return nil
}

// lastOf returns the last position of the log, as soon as the server says it; 0 if
// there is no log.
func (s *jetStream) lastOf(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	for {
		info, err := s.askedOnce(ctx)
		switch {
		case err == nil:
			return info.State.LastSeq, nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return 0, nil
		}
		select {
		case <-time.After(answerTime / 4):
		case <-ctx.Done():
			return 0, fmt.Errorf("the store does not answer since it was started anew: %w", err)
		}
	}
}

// askedOnce returns what the log says of itself, if it does so soon: a question that was on its way
// while the server was started anew has no answer.
func (s *jetStream) askedOnce(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return s.jobs.Info(ctx)
}

func (s *jetStream) usage(ctx context.Context) (used, limit int64, err error) {
	info, err := s.js.AccountInfo(ctx)
	if err != nil {
		return 0, 0, unavailable(err)
	}
	if e := s.embedded; e != nil {
		return int64(info.Store), min(e.maxStore, max(1, int64(info.Store)+e.free())), nil
	}
	return int64(info.Store), max(0, info.Limits.MaxStore), nil // -1: as many as it gets
}

func (s *jetStream) full() bool {
	if s.embedded == nil || !s.embedded.full.Load() {
		return false
	}
	s.sick.Store(true)
	return true
}

// envelope is what the head of a message and its headers take at the most.
const envelope = 8 << 10

func (s *jetStream) maxMessage() int { return int(s.nc.MaxPayload()) - envelope }

func (s *jetStream) close() {
	s.acks.close()
	if s.syncer != nil {
		s.syncer.close()
	}
	s.nc.Close()
	if s.stop != nil {
		s.stop()
	}
}

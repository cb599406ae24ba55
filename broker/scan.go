package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// stall is how long a scan waits for the next message before it gives up: a
// healthy store brings thousands in that time.
const stall = 5 * time.Second

func (s *jetStream) scan(ctx context.Context, each func(stored)) (first, last uint64, err error) {
	info, err := s.jobs.Info(ctx)
	if err != nil {
		return 0, 0, unavailable(err)
	}
	var seen uint64
	err = s.consume(ctx, s.jobs, "jobs.>", 0, info.State.LastSeq, func(m stored) { seen++; each(m) })
	if want := info.State.LastSeq + 1 - info.State.FirstSeq; err == nil && info.State.Msgs > 0 && seen < want {
		err = &lostError{want - seen}
	}
	return info.State.FirstSeq, info.State.LastSeq, err
}

// lostError says that the log has holes: it is purged at its front and never loses
// a message between.
type lostError struct{ messages uint64 }

func (e *lostError) Error() string { return fmt.Sprintf("%d messages of the log are lost", e.messages) }

func (s *jetStream) damage() int { return s.found }

func (s *jetStream) scanArchive(ctx context.Context, each func(stored)) (last uint64, err error) {
	info, err := s.done.Info(ctx)
	if err != nil {
		return 0, unavailable(err)
	}
	if last = info.State.LastSeq; s.embedded == nil {
		return last, s.consumeHeads(ctx, 0, last, each)
	}
	return last, s.scanOwn(ctx, newImage(s.embedded.dir, doneStream, true), last, each)
}

// consumeHeads calls each with the heads that the archive has from position first up to last.
func (s *jetStream) consumeHeads(ctx context.Context, first, last uint64, each func(stored)) error {
	const heads = donePrefix + "*" // the parts of a large job have one token more
	return s.consume(ctx, s.done, heads, first, last, func(m stored) {
		m.subject = m.subject[len(donePrefix):]
		each(m)
	})
}

// consume calls each with the messages of filter that the stream has now, between two positions.
func (s *jetStream) consume(ctx context.Context, from jetstream.Stream, filter string, first, last uint64, each func(stored)) error {
	c, err := from.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(1, first),
	})
	if err != nil {
		return unavailable(err)
	}
	defer removeConsumer(ctx, from, c)
	info, err := c.Info(ctx)
	if err != nil || info.NumPending == 0 {
		return err
	}
	alive, end := make(chan struct{}, 1), make(chan struct{})
	var once sync.Once
	cc, err := c.Consume(func(m jetstream.Msg) {
		md, err := m.Metadata()
		if err != nil {
			return
		}
		if md.Sequence.Stream <= last {
			each(stored{m.Subject(), md.Sequence.Stream, m.Data()})
		}
		if md.NumPending == 0 || md.Sequence.Stream >= last {
			once.Do(func() { close(end) })
		}
		select {
		case alive <- struct{}{}:
		default:
		}
	}, jetstream.PullMaxMessages(4096))
	if err != nil {
		return unavailable(err)
	}
	defer func() { cc.Stop(); <-cc.Closed() }()
	return untilEnd(ctx, alive, end, func() bool { // what expires is not delivered
		info, err := c.Info(ctx)
		return err == nil && info.NumPending == 0
	})
}

// removeConsumer removes a consumer that nobody asks any more: it stayed for five minutes, and
// a stream has no more than a thousand.
func removeConsumer(ctx context.Context, from jetstream.Stream, c jetstream.Consumer) {
	ctx, cancel := bounded(context.WithoutCancel(ctx))
	defer cancel()
	_ = from.DeleteConsumer(ctx, c.CachedInfo().Name) // else it goes by itself
}

// untilEnd waits for end, as long as there is a sign of life within each stall;
// when there is none, over says whether there is nothing more to come.
func untilEnd(ctx context.Context, alive, end <-chan struct{}, over func() bool) error {
	t := time.NewTimer(stall)
	defer t.Stop()
	for {
		select {
		case <-end:
			return nil
		case <-alive:
			t.Reset(stall)
		case <-t.C:
			if over() {
				return nil
			}
			return fmt.Errorf("reading the store stalled for %v", stall)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

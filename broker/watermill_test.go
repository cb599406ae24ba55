package broker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/broker"
	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/queue"
)

// Watermill's universal suite. Two of its tests do not apply: a job has one
// worker, so there are no consumer groups, and a finished job is not handed out
// again, so a new subscriber sees no old messages. Order is a matter of
// concurrency: a kind that runs one job at a time has it. Where it does, thousands of messages are
// no other test than a hundred, and take a busy machine minutes.
func TestWatermill(t *testing.T) {
	for _, c := range []struct {
		name        string
		concurrency int
		features    tests.Features
	}{
		{"16 at a time", 16, tests.Features{Persistent: true}},
		{"one at a time", 1, tests.Features{Persistent: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true, ForceShort: true}},
		{"exactly once", 1, tests.Features{Persistent: true, GuaranteedOrder: true, ExactlyOnceDelivery: true, ForceShort: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.features.GenerateTopicFunc = func(tctx tests.TestContext) string { return broker.Topic(kindFor(string(tctx.TestID))) }
			constructor := newPubSub(t, c.concurrency)
			tests.TestPubSub(t, c.features, constructor, func(t *testing.T, _ string) (message.Publisher, message.Subscriber) { return constructor(t) })
		})
	}
}

// kindFor makes a kind of a test's name.
func kindFor(name string) string {
	return strings.Map(func(r rune) rune {
		if job.ValidKind(string(r)) {
			return r
		}
		return '_'
	}, name)
}

// newPubSub returns a constructor of publishers and subscribers that share one
// embedded store. Kinds that are not configured follow the rules of their line.
func newPubSub(t *testing.T, concurrency int) tests.PubSubConstructor {
	var once sync.Once
	var b *broker.Broker
	dir := t.TempDir()
	rules := job.Kind{Name: job.AnyKind, Concurrency: concurrency, QueueLimit: 1 << 20, MaxAttempts: 1 << 20, Backoff: job.Backoff{First: 1, Max: 1}, Grace: 50 * time.Millisecond}
	t.Cleanup(func() {
		if b != nil {
			require.NoError(t, b.Close())
		}
	})
	return func(t *testing.T) (message.Publisher, message.Subscriber) {
		once.Do(func() {
			q := queue.New(rules)
			var err error
			b, err = broker.Open(t.Context(), broker.Options{
				Dir: dir, MaxStore: 4 << 30, Queue: q, Kinds: []job.Kind{rules}, Folds: []func(*job.Commit){q.Fold},
			})
			require.NoError(t, err)
		})
		return b.Publisher(), b.Subscriber(0)
	}
}

package broker

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// A delivery is in doubt while it is not known whether it was stored as pending: the store
// has not answered, and whoever makes deliveries was not told. A new one is put down again,
// with its job, until there is an answer; one that is replayed is replayed again by replayDoubtful.

// doubts are the deliveries in doubt, by job, which has one.
type doubts map[job.ID]doubtful

type doubtful struct {
	event  string
	replay bool
}

// maxDoubts bounds how many replays are kept in mind while the store does not answer: of
// one more its caller alone knows that it may not have come to be.
const maxDoubts = 10_000

func (b *Broker) doubt(d *job.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if replay := d.Round > 0; !replay || len(b.doubts) < maxDoubts {
		b.doubts[d.Job] = doubtful{d.ID, replay}
	}
}

func (b *Broker) doubted(d *job.Delivery) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.doubts[d.Job].event == d.ID
}

// sure says that the delivery of a job is in doubt no longer.
func (b *Broker) sure(id job.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.doubts, id)
}

// replayDoubtful makes the replays again that are in doubt.
func (b *Broker) replayDoubtful(ctx context.Context) {
	b.mu.Lock()
	again := map[job.ID]string{}
	for id, d := range b.doubts {
		if d.replay {
			again[id] = d.event
		}
	}
	b.mu.Unlock()
	for id, event := range again {
		_, err := b.Replay(ctx, id, event)
		switch {
		case errors.Is(err, job.ErrNotFound):
			b.sure(id)
		case errors.Is(err, job.ErrQueueFull):
		case err != nil:
			b.log.Warn("replay of a delivery not stored yet", zap.String("job", string(id)), zap.Error(err))
			return
		}
	}
}

package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// What was sent of a delivery that was made is in the end of its job, and is not kept twice.
// A dead letter keeps it: it may outlive the job.

// lean returns what is to be kept of d.
func lean(d *job.Delivery) *job.Delivery {
	if d.State != job.Delivered || time.Until(d.KeptUntil) < deliveredTime { // it outlives its job
		return d
	}
	less := *d
	less.Body = nil
	return &less
}

// sent returns the body of a delivery that was kept without; job.ErrNotFound: its job is no more.
func (b *Broker) sent(ctx context.Context, d *job.Delivery) (body json.RawMessage, err error) {
	at, err := job.ParseCursor(d.ID)
	if err != nil || at.Position == 0 {
		return nil, unavailable(fmt.Errorf("delivery %s of %s: %w", d.ID, d.Job, errDamaged))
	}
	j, err := b.Job(ctx, d.Job)
	if err != nil {
		return nil, err
	}
	err = b.each(ctx, d.Job, at.Position-1, 1, func(position uint64, m *frame) bool {
		for _, e := range m.events(position) {
			if e.Cursor() == at {
				body = e.WebhookBody(j.Result)
			}
		}
		return false
	})
	if err == nil && body == nil {
		err = unavailable(errMissing)
	}
	return body, err
}

package broker

import (
	"context"
	"errors"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// How far the events of a live job were sent that do not end it is noted for as long as the
// longest delay: a note that nobody needs any more goes by itself.
const (
	followedPrefix = "sent."
	followedName   = ".events"
	followedTime   = 31 * 24 * time.Hour
)

// SetFollowed notes how far the events of a job were sent.
func (b *Broker) SetFollowed(ctx context.Context, id job.ID, after job.Cursor) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	unlock, err := b.lockDeliveries(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if j, ok := b.standing(id); !ok || j.Erased {
		return nil
	}
	name := followedPrefix + string(id) + followedName
	return b.setHook(ctx, name, []byte(after.String()), followedTime, nil)
}

// Followed returns what SetFollowed has noted; if there is nothing, the place before the
// first event.
func (b *Broker) Followed(ctx context.Context, id job.ID) (job.Cursor, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	name := followedPrefix + string(id) + followedName
	s, err := b.store.delivery(ctx, name)
	if errors.Is(err, errNone) {
		return job.Cursor{}, nil
	}
	var data []byte
	if err == nil {
		data, err = unseal(name, s.data)
	}
	if err != nil {
		return job.Cursor{}, unavailable(err)
	}
	return job.ParseCursor(string(data))
}

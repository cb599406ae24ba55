package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// The end of a job that has a webhook is put down as a delivery, with all that is sent,
// before the job may leave the log. So a delivery outlives its job, and who is killed
// between the two finds the job in the log, and puts the same delivery down again:
//
//	terminal record ──▶ due.<job>.<event> ──▶ head in the archive ──▶ JOBS is purged
//	                         │ tried, again and again: replaced
//	                         ▼ delivered, or given up
//	                    over.<job>.<event>, for a while ──▶ due.… removed
//
// Whoever changes what is stored of a job's deliveries holds the job's lock, and writes only
// over what it has seen: one that was erased meanwhile does not come back.

const (
	duePrefix  = "due."
	overPrefix = "over."
	anyPrefix  = "*." // one of these, see seen
	// deadTime is how long at least a dead letter is kept: over a week-end, and the days
	// that it takes to find out.
	deadTime = 7 * 24 * time.Hour
	// deliveredTime is how long at least a delivery is kept that was made.
	deliveredTime = time.Hour
)

func deliveryName(id job.ID, event string) string { return string(id) + "." + event }

// lockDeliveries keeps others away from the deliveries of a job.
func (b *Broker) lockDeliveries(ctx context.Context, id job.ID) (unlock func(), err error) {
	return b.lockKey(ctx, duePrefix+string(id)) // no key's record has a dot
}

// putDown stores the delivery of the end of a job that is over, unless that was done.
func (b *Broker) putDown(e *entry) error {
	w := e.job.Webhook
	if w == nil || e.job.Erased {
		return nil
	}
	end, err := b.lastEvent(e)
	if err != nil || !w.Wants(end.Type) {
		return err
	}
	return b.create(b.ctx, &job.Delivery{
		ID: end.Cursor().String(), Job: e.job.ID, Owner: e.job.Owner, Type: end.Type, URL: w.URL, State: job.DeliveryPending,
		CreatedAt: end.Time, Since: now(), KeptUntil: e.job.ExpiresAt, Body: end.WebhookBody(e.job.Result),
	})
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// lastEvent returns the last event of a job in the log.
func (b *Broker) lastEvent(e *entry) (*job.Event, error) {
	last := e.messages[len(e.messages)-1]
	s, err := b.load1(b.ctx, e.subject, last)
	if err != nil {
		return nil, err
	}
	m, err := decode(s.subject, s.data)
	if err != nil {
		return nil, err
	}
	events := m.events(last.position)
	return &events[len(events)-1], nil
}

// create stores a delivery that is new, and tells of it.
func (b *Broker) create(ctx context.Context, d *job.Delivery) error {
	unlock, err := b.lockDeliveries(ctx, d.Job)
	if err != nil {
		return err
	}
	defer unlock()
	doubted := b.doubted(d)
	if !doubted { // it is new, as good as always
		if _, err = b.setDue(ctx, d, &seen{name: anyPrefix + deliveryName(d.Job, d.ID)}); !errors.Is(err, errRefused) {
			return err
		}
	}
	was, err := b.delivery(ctx, d.Job, d.ID)
	switch {
	case errors.Is(err, job.ErrNotFound):
	case err != nil, was.State != job.DeliveryPending, !doubted:
		return err
	default:
		d = &was
		d.Round++
	}
	_, err = b.setDue(ctx, d, nil)
	return err
}

// setDue stores a delivery that is pending, and tells of it. taken is false if so many wait
// already that it was given up. After an error it is in doubt whether it is stored, and
// nobody was told; unless that is errRefused: what is stored is not as was says.
func (b *Broker) setDue(ctx context.Context, d *job.Delivery, was *seen) (taken bool, err error) {
	d.Version = 0 // of what it takes the place of
	b.doubt(d)
	err = b.setDelivery(ctx, duePrefix, d, 0, was)
	if errors.Is(err, errRefused) {
		b.sure(d.Job)
	}
	if err != nil {
		return false, err
	}
	if d.Round > 0 {
		if err := b.store.dropDeliveries(ctx, overPrefix+deliveryName(d.Job, d.ID)); err != nil {
			return false, err
		}
	}
	if taken = b.told(d); !taken {
		if err := b.endDelivery(ctx, crowded(d), nil); err != nil {
			return false, err
		}
	}
	b.sure(d.Job)
	return taken, nil
}

// told reports whether somebody will make a delivery, who is told of it; or nobody makes any.
func (b *Broker) told(d *job.Delivery) bool { return b.due == nil || b.due(d) }

// crowded returns d as one that is given up at once: so many wait already that one more is
// no use.
func crowded(d *job.Delivery) *job.Delivery {
	dead := *d
	dead.State, dead.SettledAt, dead.NextAt = job.DeliveryDead, now(), time.Time{}
	dead.Last = &job.Try{At: now(), Error: "too many deliveries wait for this receiver"}
	return &dead
}

// endDelivery stores a delivery that was made, or given up. The job's lock is held.
func (b *Broker) endDelivery(ctx context.Context, d *job.Delivery, was *seen) error {
	if err := b.setDelivery(ctx, overPrefix, lean(d), keptFor(d), was); err != nil {
		return err
	}
	return b.store.dropDeliveries(ctx, duePrefix+deliveryName(d.Job, d.ID))
}

func (b *Broker) setDelivery(ctx context.Context, prefix string, d *job.Delivery, ttl time.Duration, was *seen) error {
	return b.setHook(ctx, prefix+deliveryName(d.Job, d.ID), job.MustJSON(d), ttl, was)
}

func (b *Broker) setHook(ctx context.Context, name string, text []byte, ttl time.Duration, was *seen) error {
	data := seal(name, text)
	place, err := b.store.setDelivery(ctx, name, data, ttl, was)
	if err != nil {
		return err
	}
	b.room.used.Add(int64(len(data)))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hooksEnded = max(b.hooksEnded, place)
	return nil
}

// Delivery returns a delivery of a job, or job.ErrNotFound.
func (b *Broker) Delivery(ctx context.Context, id job.ID, event string) (job.Delivery, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	d, err := b.delivery(ctx, id, event)
	if errors.Is(err, job.ErrNotFound) {
		if _, err := b.Job(ctx, id); err == nil { // it was not erased
			b.log.Error("the store has lost a webhook delivery", zap.String("job", string(id)), zap.String("delivery", event))
		}
	}
	return d, err
}

func (b *Broker) delivery(ctx context.Context, id job.ID, event string) (d job.Delivery, err error) {
	for _, prefix := range []string{duePrefix, overPrefix} {
		name := prefix + deliveryName(id, event)
		s, err := b.store.delivery(ctx, name)
		if err == nil {
			d, err = openDelivery(name, s.data)
			d.Version = s.position
			return d, err
		}
		if !errors.Is(err, errNone) {
			return d, err
		}
	}
	return d, job.ErrNotFound
}

// openDelivery reads what setDelivery has stored under name.
func openDelivery(name string, data []byte) (d job.Delivery, err error) {
	text, err := unseal(name, data)
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err == nil && !strings.HasSuffix(name, "."+deliveryName(d.Job, d.ID)) {
		err = fmt.Errorf("%s: %w", name, errDamaged)
	}
	if err != nil {
		return d, unavailable(err)
	}
	return d, nil
}

// Deliveries returns what is known of a job's deliveries, the oldest first. Those that were
// made are known as long as the job, and those that were given up at least deadTime.
func (b *Broker) Deliveries(ctx context.Context, id job.ID) ([]job.Delivery, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var all []job.Delivery
	var bad error
	for _, prefix := range []string{duePrefix, overPrefix} {
		_, err := b.store.deliveries(ctx, prefix+string(id)+".*", func(s stored) {
			d, err := openDelivery(s.subject, s.data)
			bad = errors.Join(bad, err)
			if err == nil {
				all = addDelivery(all, d)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return all, bad
}

// addDelivery adds d in order of time, unless one of its id is there: what is pending comes
// first, and goes before what was settled earlier.
func addDelivery(all []job.Delivery, d job.Delivery) []job.Delivery {
	at := len(all)
	for i := range all {
		if all[i].ID == d.ID {
			return all
		}
		if at == len(all) && d.CreatedAt.Before(all[i].CreatedAt) {
			at = i
		}
	}
	return append(all[:at:at], append([]job.Delivery{d}, all[at:]...)...)
}

// Tried stores what came of a try: d as it is now, pending or settled. job.ErrNotFound: it
// does not matter any more, as its job was erased meanwhile, or the delivery was replayed.
func (b *Broker) Tried(ctx context.Context, d *job.Delivery) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	unlock, err := b.lockDeliveries(ctx, d.Job)
	if err != nil {
		return err
	}
	defer unlock()
	was := seen{duePrefix + deliveryName(d.Job, d.ID), d.Version}
	if was.place > 0 {
		if err := b.setTried(ctx, d, &was); !errors.Is(err, errRefused) {
			return err
		}
	}
	s, err := b.store.delivery(ctx, was.name)
	if err != nil {
		return orNotFound(err)
	}
	if other, err := openDelivery(was.name, s.data); err == nil && other.Round != d.Round { // if it is damaged, it is mended now
		return job.ErrNotFound
	}
	was.place = s.position
	return b.setTried(ctx, d, &was)
}

func (b *Broker) setTried(ctx context.Context, d *job.Delivery, was *seen) error {
	if d.State == job.DeliveryPending {
		return b.setDelivery(ctx, duePrefix, d, 0, was)
	}
	return b.endDelivery(ctx, d, was)
}

func orNotFound(err error) error {
	if errors.Is(err, errNone) {
		return job.ErrNotFound
	}
	return err
}

// keptFor is how long a delivery that is settled is kept.
func keptFor(d *job.Delivery) time.Duration {
	least := deliveredTime
	if d.State == job.DeliveryDead {
		least = deadTime
	}
	return max(least, time.Until(d.KeptUntil))
}

// Replay makes a delivery due now, whatever has become of it, with all its tries before it.
// A try that is under way counts for nothing then: it is sent again. job.ErrNotFound: there
// is none.
func (b *Broker) Replay(ctx context.Context, id job.ID, event string) (d job.Delivery, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	unlock, err := b.lockDeliveries(ctx, id)
	if err != nil {
		return d, err
	}
	defer unlock()
	if d, err = b.delivery(ctx, id, event); err != nil {
		return d, err
	}
	if d.Fresh(now()) && !b.doubted(&d) { // each replay takes a place in line
		return d, nil
	}
	if d.State == job.Delivered && d.Body == nil {
		if d.Body, err = b.sent(ctx, &d); err != nil {
			return d, err
		}
	}
	d.State, d.Tries, d.Since, d.NextAt, d.SettledAt = job.DeliveryPending, 0, now(), now(), time.Time{}
	d.Round++
	taken, err := b.setDue(ctx, &d, nil)
	if err == nil && !taken {
		err = job.Problemf("queue-full", "Too many deliveries wait for this receiver.")
	}
	return d, err
}

// removeDeliveries removes all deliveries of a job.
func (b *Broker) removeDeliveries(ctx context.Context, id job.ID) error {
	unlock, err := b.lockDeliveries(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	err = b.store.dropDeliveries(ctx, "*."+string(id)+".*")
	if err == nil {
		b.sure(id)
	}
	return err
}

// loadDeliveries tells of those that are pending. One that is damaged stays where it is:
// nothing is deleted that might be mended.
func (b *Broker) loadDeliveries(ctx context.Context, marked marks) error {
	var many []*job.Delivery
	last, err := b.store.deliveries(ctx, duePrefix+"*.*", func(s stored) {
		d, err := openDelivery(s.subject, s.data)
		switch {
		case err != nil:
			b.found("damaged delivery", zap.String("name", s.subject), zap.Error(err))
		case !b.told(&d):
			many = append(many, crowded(&d))
		}
	})
	if last < marked.HooksEnded {
		b.found("the store has lost webhook deliveries", zap.Uint64("from", last+1), zap.Uint64("to", marked.HooksEnded))
	}
	b.hooksEnded = last
	for _, d := range many {
		b.log.Warn("webhook given up", zap.String("job", string(d.Job)), zap.String("delivery", d.ID), zap.String("error", d.Last.Error))
		err = errors.Join(err, b.endDelivery(ctx, d, nil))
	}
	return err
}

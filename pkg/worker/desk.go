package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Desk is where pull workers, which are other programs, take their work and say what
// becomes of it. Each attempt has a seat, from its job.running to its end:
//
//	Lease ── take ──▶ the attempt's Func sits down ──▶ the lease
//	Report ─────────▶ its seat ──▶ the Task, as any worker's ──▶ stored ──▶ the answer
//	                     │ finish, or nothing heard for as long as a lease lives
//	                     ▼
//	                  the Func returns
type Desk struct {
	take func(ctx context.Context, worker string, kinds ...string) (job.ID, uint64, error)
	job  func(ctx context.Context, id job.ID) (job.Job, error)

	mu    sync.Mutex // protects seats
	seats map[place]*seat
}

// place names an attempt.
type place struct {
	id    job.ID
	lease uint64
}

// NewDesk returns a Desk. take claims a job of one of the kinds, for as long as its
// context allows, or fails with job.ErrNotFound, and has a Func of the Desk run its
// attempt; lookup returns a job as it stands.
func NewDesk(
	take func(ctx context.Context, worker string, kinds ...string) (job.ID, uint64, error),
	lookup func(ctx context.Context, id job.ID) (job.Job, error),
) *Desk {
	return &Desk{take: take, job: lookup, seats: map[place]*seat{}}
}

// Func returns the Func of a kind whose leases live for that long. A worker that is told
// of a cancel has the grace to say its last.
func (d *Desk) Func(lease, grace time.Duration) Func {
	return func(ctx context.Context, t *Task) (any, error) {
		s := d.sit(ctx, t, lease)
		defer d.rise(s)
		return s.wait(grace)
	}
}

func placeOf(t *Task) place { return place{t.a.Job.ID, t.a.Job.Lease} }

// seat returns the attempt's seat, where somebody sits or will. d.mu is held.
func (d *Desk) seat(p place) *seat {
	s := d.seats[p]
	if s == nil {
		s = newSeat()
		d.seats[p] = s
	}
	return s
}

func (d *Desk) sit(ctx context.Context, t *Task, lease time.Duration) *seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.seat(placeOf(t))
	s.ctx, s.t, s.life, s.heard = ctx, t, lease, time.Now()
	close(s.taken)
	return s
}

func (d *Desk) rise(s *seat) {
	s.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seats, placeOf(s.t))
}

// arrival is how long a job that was claimed may take to its seat. It takes no time,
// unless it is canceled, or everything ends, on the way.
const arrival = 5 * time.Second

// arrive waits until the attempt sits; nil if it does not come.
func (d *Desk) arrive(p place) *seat {
	d.mu.Lock()
	s := d.seat(p)
	d.mu.Unlock()
	timer := time.NewTimer(arrival)
	defer timer.Stop()
	select {
	case <-s.taken:
		return s
	case <-timer.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.t != nil {
		return s
	}
	delete(d.seats, p)
	return nil
}

// Lease waits for work of the kinds, and returns as much of it as there is then, but at
// most so many attempts. If whoever asked has gone meanwhile, the jobs go back.
func (d *Desk) Lease(ctx context.Context, wait time.Duration, worker string, most int, kinds ...string) (leases []job.Lease, err error) {
	patience, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var seats []*seat
	for len(seats) < most {
		id, lease, err := d.take(patience, worker, kinds...)
		if err != nil && len(seats) == 0 && !errors.Is(err, job.ErrNotFound) {
			return nil, err
		}
		if err != nil {
			break
		}
		cancel() // for more of it nobody waits
		if s := d.arrive(place{id, lease}); s != nil {
			seats = append(seats, s)
		}
	}
	for _, s := range seats {
		if ctx.Err() != nil {
			s.finish(ending{err: job.ErrDraining})
		}
		leases = append(leases, s.lease())
	}
	return leases, ctx.Err()
}

// Leased returns an attempt as its worker has it, for as long as it has it; else
// job.ErrLeaseLost.
func (d *Desk) Leased(ctx context.Context, id job.ID, lease uint64) (job.Lease, error) {
	d.mu.Lock()
	s := d.seats[place{id, lease}]
	d.mu.Unlock()
	if s == nil || !s.enter() {
		_, err := d.afterwards(ctx, id, lease, nil)
		return job.Lease{}, err
	}
	defer s.leave()
	return s.lease(), nil
}

// Report has the attempt say what its worker says, and returns when that is stored. All
// of it is looked at before any of it is said. job.ErrLeaseLost: the job belongs to
// another attempt, or to none. Saying nothing is a sign of life.
func (d *Desk) Report(ctx context.Context, id job.ID, lease uint64, said []job.Said) (job.Standing, error) {
	d.mu.Lock()
	s := d.seats[place{id, lease}]
	d.mu.Unlock()
	if s == nil || !s.enter() {
		return d.afterwards(ctx, id, lease, said)
	}
	defer s.leave()
	if len(said) == 0 {
		return s.standing(), nil
	}
	over, err := s.report(ctx, said)
	if err == nil && over {
		return d.afterwards(ctx, id, lease, said)
	}
	return s.standing(), err
}

// errMoving is the answer while a lease changes from one process to the next.
var errMoving = func() error {
	p := job.Problemf("storage-unavailable", "The attempt is about to be taken over: say it again.")
	p.RetryAfter = time.Second
	return p
}()

// afterwards answers a report of an attempt that has no seat. One that ended it is
// answered as often as it is repeated.
func (d *Desk) afterwards(ctx context.Context, id job.ID, lease uint64, said []job.Said) (job.Standing, error) {
	j, err := d.job(ctx, id)
	switch {
	case errors.Is(err, job.ErrNotFound):
		return job.Standing{}, job.ErrLeaseLost
	case err != nil:
		return job.Standing{}, err
	case j.Lease == lease:
		return job.Standing{}, errMoving
	case j.EndedBy(lease) && ends(said):
		return job.Standing{Expires: time.Now(), Cancel: !j.CancelRequestedAt.IsZero()}, nil
	}
	return job.Standing{}, job.ErrLeaseLost
}

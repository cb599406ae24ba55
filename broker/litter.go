package broker

import (
	"container/heap"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// What of a job lies in pieces in the archive, its input and its result, goes when the job
// expires, and is removed then at a rate that disturbs nobody. The list of it is made anew at
// each start.

// litter are the pieces that are to be removed, the next first.
type litter []pile

// pile is all pieces whose names begin with one name.
type pile struct {
	name string
	at   time.Time
}

func (l litter) Len() int           { return len(l) }
func (l litter) Less(i, j int) bool { return l[i].at.Before(l[j].at) }
func (l litter) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *litter) Push(x any)        { *l = append(*l, x.(pile)) }
func (l *litter) Pop() any {
	old := *l
	last := old[len(old)-1]
	*l = old[:len(old)-1]
	return last
}

// discard has pieces removed when their time has come. b.mu is held, or nobody else is
// there yet.
func (b *Broker) discard(name string, at time.Time) { heap.Push(&b.litter, pile{name, at}) }

// discardOf has the pieces of a job that is over removed when it has expired, and whoever
// was reading them then has had a while to come to their end; see discard.
func (b *Broker) discardOf(j *job.Job) {
	at := j.ExpiresAt.Add(partsOutlive)
	if j.Upload != nil {
		b.discard(uploadName(j.Upload.ID), at)
	}
	if r := j.Result; r != nil && len(r.Pieces) > 0 {
		b.discard(piecesName(j.ID, r.Lease), at)
	}
}

// cleanTime is how long pieces are removed in a tick: the store answers nobody else
// meanwhile. A number of piles would not do: as many may expire in a tick as were stored in
// one, and what is not removed is room that others do not get.
const cleanTime = purgeTime / 4

// clean removes the pieces whose time has come.
func (b *Broker) clean() {
	for begin := time.Now(); time.Since(begin) < cleanTime; {
		p, ok := b.nextPile(begin)
		if !ok {
			return
		}
		ctx, cancel := bounded(b.ctx)
		err := b.store.remove(ctx, p.name)
		cancel()
		if err == nil {
			continue
		}
		if b.ctx.Err() == nil {
			b.log.Warn("pieces of a job that is gone are not removed yet", zap.String("pieces", p.name), zap.Error(err))
		}
		b.mu.Lock()
		b.discard(p.name, time.Now().Add(storeTime)) // the others first
		b.mu.Unlock()
		return
	}
}

func (b *Broker) nextPile(now time.Time) (p pile, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.litter) == 0 || b.litter[0].at.After(now) {
		return p, false
	}
	return heap.Pop(&b.litter).(pile), true
}

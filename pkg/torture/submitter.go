package torture

import (
	"net/http"
	"sync"
	"time"
)

const (
	// submitters are few: a torture is about what happens, not about load, and is to
	// mean the same on a small machine.
	submitters = 8
	// idleTime is the longest that a submitter rests between two jobs.
	idleTime = 200 * time.Millisecond
	// cancelTime is the longest that a job is left alone before it is canceled or erased,
	// if it is: some are over by then.
	cancelTime = 1500 * time.Millisecond
)

// How many of a hundred jobs have what not all have: each is a client more.
const (
	watchedJobs = 40
	fetchedJobs = 40
	erasedJobs  = 20
	retriedJobs = 10
	hooked      = 40
)

// The streams of the seed.
const (
	ofSubmitters = 2 + iota
	ofReaders
	ofCancelers
	ofPullers
	ofWatchers
	ofFetchers
	ofErasers
	ofOverseers
)

// start starts all clients. They go on until nothing new is submitted and what was
// accepted is over.
func (s *session) start() {
	for n := range overseers {
		o := newOverseer(s, n)
		o.begin()
		s.workers.Go(o.run)
	}
	for n := range submitters {
		s.clients.Go(newSubmitter(s, n).run)
	}
	if s.pulls {
		for n := range pullers {
			s.workers.Go(newPuller(s, n).run)
		}
	}
}

// submitter submits a job, has readers follow it to its end, and maybe somebody
// cancel or erase it, or has it done once more; then the next.
type submitter struct {
	*client
	n       int
	keys    int // used so far
	readers []*reader
	cancel  *client
	watcher *watcher
	fetcher *fetcher
	eraser  *eraser
}

func newSubmitter(s *session, n int) *submitter {
	b := &submitter{
		client: s.client("submitter", n, ofSubmitters), n: n, cancel: s.client("canceler", n, ofCancelers),
		watcher: &watcher{client: s.client("watcher", n, ofWatchers)},
		fetcher: &fetcher{client: s.client("fetcher", n, ofFetchers)},
		eraser:  &eraser{client: s.client("eraser", n, ofErasers)},
	}
	for i := range readersOfJob {
		b.readers = append(b.readers, newReader(s, n*readersOfJob+i, (n*readersOfJob+i)%len(transports)))
	}
	return b
}

func (b *submitter) run() {
	defer b.close()
	for !b.isOver() {
		if b.chance(batches) {
			b.seeBatch()
		} else {
			b.seeOne()
		}
		pause(b.ctx, time.Duration(b.rand.Int64N(int64(idleTime))))
	}
	b.eraser.look() // once more, when nothing is done to the server
}

// seeOne submits a job, and sees it to its end.
func (b *submitter) seeOne() {
	o := b.invent()
	if id := b.submit(o); id != "" {
		b.accepted.Add(1) // once for each job: all who race for a key are told of one
		b.see(id, o)
	}
}

// see sees a job to its end, and maybe has it done once more.
func (b *submitter) see(id string, o order) {
	if o.hook != "" {
		b.up.await(id)
	}
	switch {
	case b.follow(id, o):
	case o.kind != kindDeaf && b.chance(retriedJobs): // one of those is long enough
		if next := b.retry(id, o); next != "" {
			b.accepted.Add(1)
			b.follow(next, order{kind: o.kind})
		}
	}
}

func (b *submitter) close() {
	for _, r := range b.readers {
		r.close()
	}
	for _, c := range []*client{b.cancel, b.watcher.client, b.fetcher.client, b.eraser.client, b.client} {
		c.close()
	}
}

func (b *submitter) choose() string {
	kinds := []string{kindLines, kindLines, kindTokens, kindTokens, kindFails, kindDeaf, kindOnce, kindBulk}
	if b.pulls {
		kinds = append(kinds, kindPull, kindPull, kindPull)
	}
	return kinds[b.rand.IntN(len(kinds))]
}

// follow waits until all who look at the job know its end, or that it is gone.
func (b *submitter) follow(id string, o order) (isErased bool) {
	var all sync.WaitGroup
	for _, r := range b.readers {
		all.Go(func() { r.follow(id) })
	}
	if b.chance(watchedJobs) {
		all.Go(func() { b.watcher.watch(id) })
	}
	if b.chance(fetchedJobs) || o.kind == kindBulk { // which is there for it
		all.Go(func() { b.fetcher.fetch(id) })
	}
	percent := 10
	if o.kind == kindDeaf {
		percent = 70
	}
	if b.chance(percent) {
		wait := b.sometime()
		all.Go(func() { b.cancelAfter(id, wait) })
	}
	if isErased = b.chance(erasedJobs); isErased {
		wait := b.sometime()
		all.Go(func() { b.eraser.eraseAfter(id, o, wait) })
	}
	all.Wait()
	if isErased && o.hook != "" {
		b.up.forget(id)
	}
	return isErased
}

func (b *submitter) sometime() time.Duration {
	return time.Duration(b.rand.Int64N(int64(cancelTime)))
}

// count tells others of a job that was just accepted, or erased.
func (s *session) count() {
	select {
	case s.accepts <- struct{}{}:
	default:
	}
}

// cancelAfter cancels a job, and does not give up before it is told that this is done.
func (b *submitter) cancelAfter(id string, wait time.Duration) {
	c := b.cancel
	for ok := pause(c.ctx, wait); ok; ok = c.again() {
		a, err := c.ask(http.MethodPost, "/v1/jobs/"+id+"/cancel", nil)
		if err != nil {
			c.diary.note(entry{What: silent, Job: id, Detail: err.Error()})
			continue
		}
		e := entry{What: canceled, Job: id, Status: a.status, Sent: a.sent}
		var j struct{ Status string }
		switch {
		case a.status == http.StatusOK || a.status == http.StatusAccepted:
			_ = a.into(&j)
			e.State = j.Status
			c.diary.note(e)
			return
		case a.status == http.StatusNotFound:
			e.What = missing
			c.diary.note(e)
			return
		case mayRefuse(a.status):
			e.What = refused
		default:
			e.What, e.Detail = surprise, "an answer to a cancel: "+string(a.body)
			c.diary.note(e)
			return
		}
		c.diary.note(e)
	}
}

// Package queue says what may run next. It is a fold of the log in memory: three
// priorities, one limit of concurrency a kind, and times before which a job does
// not run. Nothing here is stored; the log at start makes it again.
package queue

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/millstream/millstream/pkg/job"
)

// Queue holds the jobs that wait and counts those that run.
type Queue struct {
	mu    sync.Mutex // protects all below, and every line and item
	rules map[string]job.Kind
	lines map[string]*line
	items map[job.ID]*item
	order uint64
}

// line is the queue of one kind.
type line struct {
	limit, cap int
	ready      items // may run now
	later      items // may run at their time
	claimed    int   // taken, and not yet known to run
	running    int
	admitted   int           // let in, and not yet in the log
	pace       pace          // of those that leave it
	wake       chan struct{} // one slot: somebody should look again
	timer      *time.Timer   // for the first of later
}

// item is a job that waits or runs.
type item struct {
	id       job.ID
	line     *line
	state    state
	priority job.Priority
	order    uint64 // in which the log brought it
	runAt    time.Time
	in       *items // that holds it; nil: none
}

type state uint8

const (
	waiting state = iota
	claimed
	running
)

// New returns a Queue that follows the rules of these kinds.
func New(kinds ...job.Kind) *Queue {
	q := &Queue{rules: map[string]job.Kind{}, lines: map[string]*line{}, items: map[job.ID]*item{}}
	for _, k := range kinds {
		q.rules[k.Name] = k
	}
	return q
}

// line returns the line of a kind. q.mu is held.
func (q *Queue) line(kind string) *line {
	l := q.lines[kind]
	if l == nil {
		k := job.Rules(q.rules, kind)
		l = &line{limit: k.Concurrency, cap: k.QueueLimit, ready: newItems(byPriority), later: newItems(byTime), wake: make(chan struct{}, 1)}
		l.timer = time.AfterFunc(time.Hour, func() { q.ripen(l) })
		l.timer.Stop()
		q.lines[kind] = l
	}
	return l
}

// Fold takes one commit of the log.
func (q *Queue) Fold(c *job.Commit) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.Job.Status == "" { // it is damaged: nobody can run it
		q.drop(c.Job.ID)
		return
	}
	l := q.line(c.Job.Kind)
	if c.Was == "" && len(c.Events) > 0 && l.admitted > 0 {
		l.admitted--
	}
	it := q.items[c.Job.ID]
	if c.Was == job.StatusQueued && c.Job.Status != job.StatusQueued {
		l.pace.leave(time.Now())
	}
	switch {
	case c.Job.Status.Over():
		q.drop(c.Job.ID)
	case c.Job.Status == job.StatusRunning:
		q.item(c.Job).run()
	case it == nil || it.state == running:
		it = q.item(c.Job)
		it.leave()
		it.state, it.runAt = waiting, c.Job.RunAt
		it.wait(time.Now())
	}
	l.look()
}

// drop forgets a job, if it is known. q.mu is held.
func (q *Queue) drop(id job.ID) {
	if it := q.items[id]; it != nil {
		it.leave()
		delete(q.items, id)
		it.line.look() // there may be room for another
	}
}

// item returns the item of j, a new one if it has none. q.mu is held.
func (q *Queue) item(j *job.Job) *item {
	it := q.items[j.ID]
	if it == nil {
		q.order++
		it = &item{id: j.ID, line: q.line(j.Kind), priority: j.Priority, order: q.order}
		q.items[j.ID] = it
	}
	return it
}

// leave takes the item out of whatever counts it.
func (it *item) leave() {
	switch {
	case it.in != nil:
		it.in.remove(it)
	case it.state == claimed:
		it.line.claimed--
	case it.state == running:
		it.line.running--
	}
	it.state = waiting
}

func (it *item) run() {
	it.leave()
	it.state = running
	it.line.running++
}

// wait puts a waiting item where it belongs at now.
func (it *item) wait(now time.Time) {
	l := it.line
	if !it.runAt.After(now) {
		l.ready.add(it)
		return
	}
	l.later.add(it)
	if l.later.first() == it {
		l.timer.Reset(until(it.runAt, now))
	}
}

// longest is how long a job that is due later is waited for at a time: timers know nothing
// of a clock that was set, or of a machine that was asleep.
const longest = time.Minute

func until(at, now time.Time) time.Duration { return min(longest, at.Sub(now)) }

// ripen moves what is due from later to ready.
func (q *Queue) ripen(l *line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	it := l.later.first()
	for ; it != nil && !it.runAt.After(now); it = l.later.first() {
		l.later.remove(it)
		l.ready.add(it)
	}
	if it != nil {
		l.timer.Reset(until(it.runAt, now))
	}
	l.look()
}

// look wakes one taker if there is something to take.
func (l *line) look() {
	if l.takable() {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

func (l *line) takable() bool { return l.ready.len() > 0 && l.running+l.claimed < l.limit }

// Take waits for a job of one of the kinds that may run, within its kind's limit, and
// sets it aside: its job.running, or Return, settles the claim.
func (q *Queue) Take(ctx context.Context, kinds ...string) (job.ID, error) {
	lines := q.linesOf(kinds)
	defer q.lookAt(lines) // a token that woke us may have been meant for others
	wait := waits(ctx, lines)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		if id, ok := q.tryTake(lines); ok {
			return id, nil
		}
		reflect.Select(wait)
	}
}

// TryTake is Take for who does not wait; ok is false if there is nothing to take.
func (q *Queue) TryTake(kinds ...string) (id job.ID, ok bool) {
	return q.tryTake(q.linesOf(kinds))
}

func (q *Queue) linesOf(kinds []string) []*line {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := make([]*line, len(kinds))
	for i, kind := range kinds {
		lines[i] = q.line(kind)
	}
	return lines
}

// waits is what wakes a taker: something to take in one of the lines, or the end of ctx.
func waits(ctx context.Context, lines []*line) []reflect.SelectCase {
	cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())}}
	for _, l := range lines {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(l.wake)})
	}
	return cases
}

func (q *Queue) lookAt(lines []*line) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range lines {
		l.look()
	}
}

// tryTake takes from any of the lines: none of them is to wait until another is empty.
func (q *Queue) tryTake(lines []*line) (job.ID, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := rand.IntN(len(lines))
	for i := range lines {
		if id, ok := lines[(from+i)%len(lines)].take(); ok {
			return id, true
		}
	}
	return "", false
}

func (l *line) take() (job.ID, bool) {
	if !l.takable() {
		return "", false
	}
	it := l.ready.first()
	l.ready.remove(it)
	it.state = claimed
	l.claimed++
	l.look() // the next taker
	return it.id, true
}

// Return ends a claim that did not succeed. The job waits again, if it still does,
// and may be taken after pause.
func (q *Queue) Return(id job.ID, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[id]
	if it == nil || it.state != claimed {
		return
	}
	it.leave()
	if pause > 0 {
		it.runAt = time.Now().Add(pause)
	}
	it.wait(time.Now())
	it.line.look()
}

// When a submit that found the queue full should come back.
const (
	retryUnknown = 5 * time.Second  // nothing has left the queue yet
	minRetry     = time.Second      // the header counts in seconds
	maxRetry     = 10 * time.Minute // by then somebody may have mended what holds it up

	// freeShare is how much of the queue is to be free by then: those who come back for
	// a single place come back for nothing.
	freeShare = 10
)

// retryAfter returns when there will be room again, as far as can be foreseen: from how
// fast the queue has moved of late, or from when the first job is due if all of them wait
// for their time.
func (l *line) retryAfter(now time.Time) time.Duration {
	d, known := l.pace.timeFor(max(1, l.cap/freeShare), now)
	if first := l.later.first(); first != nil && l.queued() == l.later.len() {
		d, known = first.runAt.Sub(now), true
	}
	if !known {
		return retryUnknown
	}
	return min(max(d, minRetry), maxRetry)
}

// Admit lets one more job of kind in, or says that its queue is full. The job's
// first commit uses the room, Dismiss gives it back.
func (q *Queue) Admit(kind string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.line(kind)
	if l.queued()+l.admitted >= l.cap {
		p := job.Problemf("queue-full", "%d jobs of kind %s wait already", l.queued()+l.admitted, kind)
		p.RetryAfter = l.retryAfter(time.Now())
		return p
	}
	l.admitted++
	return nil
}

// Dismiss gives back the room of a job that did not come.
func (q *Queue) Dismiss(kind string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.line(kind); l.admitted > 0 {
		l.admitted--
	}
}

func (l *line) queued() int { return l.ready.len() + l.later.len() + l.claimed }

// Depth returns how many jobs of kind wait and how many run.
func (q *Queue) Depth(kind string) (queued, running int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.line(kind)
	return l.queued(), l.running
}

// Position returns how many jobs of its kind are ahead of a waiting job; those
// that may run only later count behind all that may run now.
func (q *Queue) Position(id job.ID) (ahead int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[id]
	if it == nil || it.state == running {
		return 0, false
	}
	if it.state == claimed {
		return 0, true
	}
	if it.in == &it.line.later {
		ahead = it.line.ready.len()
	}
	return ahead + it.in.before(it), true
}

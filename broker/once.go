package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// A submit with an idempotency key stores two things:
//
//	key record {job, fingerprint}, if there is none ──▶ job.queued, if the job has no message ──▶ answer
//
// A repeat finds the record, and then the job, or does the second step again: the job's
// id is in the record, so that it is stored once, however many do it. That the job
// is not there must not mean that it has gone: before a job leaves the log, its key
// record is told that it was there.

// keyWindow is how long a key is remembered: a client that was away over night still
// repeats the same submit.
const keyWindow = 24 * time.Hour

// keyRecord is what is stored of a key.
type keyRecord struct {
	Job         job.ID    `json:"job,omitempty"`
	Batch       string    `json:"batch,omitempty"` // in place of a job: a batch, in which are the ids of its jobs
	Fingerprint string    `json:"fingerprint"`     // of what was asked for
	Time        time.Time `json:"time"`
	Stored      bool      `json:"stored,omitempty"`  // the job was in the log, wherever it is now
	Indices     []byte    `json:"indices,omitempty"` // of the jobs of a batch that were: a bit for each
}

// was reports whether the job was in the log.
func (r *keyRecord) was(id job.ID) bool {
	n := id.IndexIn()
	return r.Stored || n/8 < len(r.Indices) && r.Indices[n/8]&(1<<(n%8)) != 0
}

// note notes that the job of the batch was in the log.
func (r *keyRecord) note(id job.ID) {
	if len(r.Indices) == 0 {
		r.Indices = make([]byte, (job.MaxBatch+7)/8)
	}
	n := id.IndexIn()
	r.Indices[n/8] |= 1 << (n % 8)
}

// errKeyReused is the error of a key that came with another body before.
var errKeyReused = job.Problemf("idempotency-mismatch", "The Idempotency-Key was used for another request.")

// keyName returns the name of a key's record: of an owner's, and of any bytes.
func keyName(owner, key string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s%s", len(owner), owner, key))
	return hex.EncodeToString(sum[:16])
}

// SubmitOnce is Submit for a request that its caller may repeat: for keyWindow the same
// key of the same owner is the same job, as it is now, and replayed says that it was
// there. fingerprint stands for what was asked for; another one is errKeyReused.
// job.ErrNotFound: the job was, and is no more.
func (b *Broker) SubmitOnce(ctx context.Context, key, fingerprint string, r *job.Request) (j job.Job, replayed bool, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	o := once{b: b, name: keyName(r.Owner, key), request: *r}
	defer o.leave()
	o.request.Once = &job.Once{Record: o.name, Fingerprint: fingerprint}
	unlock, err := b.lockKey(ctx, o.name)
	if err != nil {
		return job.Job{}, false, err
	}
	defer unlock()
	rec, err := b.keyRecord(ctx, o.name)
	switch {
	case errors.Is(err, errNone):
		return o.first(ctx, keyRecord{Job: job.NewID(), Fingerprint: fingerprint, Time: time.Now().UTC()})
	case err != nil:
		return job.Job{}, false, unavailable(err)
	case rec.Fingerprint != fingerprint || rec.Batch != "":
		return job.Job{}, false, errKeyReused
	}
	return o.again(ctx, rec)
}

// once is a submit with a key, which nobody else of this process uses meanwhile. So who
// finds that the job was never in the log is the only one who puts it there.
type once struct {
	b       *Broker
	name    string // of the key's record
	request job.Request
	entered bool // the request is on its way into the log
}

// enter stores what was admitted.
func (o *once) enter(ctx context.Context, id job.ID) (job.Job, bool, error) {
	o.entered = true
	return o.b.enter(ctx, id, &o.request)
}

// leave gives back what came with a request that was not needed.
func (o *once) leave() {
	if !o.entered {
		o.b.Discard(o.request.Upload)
	}
}

// errKeyGone is the error of a request whose input was not stored as the job of its key was
// there, which it is no more.
var errKeyGone = unavailable(errors.New("the job of the key went while the request came in"))

// admit finds out whether the job can be stored.
func (o *once) admit() error {
	if u := o.request.Upload; u != nil && u.ID == "" {
		return errKeyGone
	}
	return o.b.admit(&o.request, 0)
}

// first stores the key and the job.
func (o *once) first(ctx context.Context, rec keyRecord) (job.Job, bool, error) {
	if err := o.admit(); err != nil {
		return job.Job{}, false, err
	}
	if err := o.b.setKeyRecord(ctx, o.name, rec, true); err != nil {
		o.b.queue.Dismiss(o.request.Kind)
		return job.Job{}, false, unavailable(err)
	}
	j, existed, err := o.enter(ctx, rec.Job)
	if refusedForGood(err) {
		o.b.dropKey(ctx, o.name, rec)
	}
	return j, existed, err
}

// refusedForGood reports whether err says that nothing was stored, or will be.
func refusedForGood(err error) bool {
	return errors.Is(err, job.ErrTooLarge) || errors.Is(err, errFull())
}

// again returns the job of a key that was used, or stores it if who used it could not.
func (o *once) again(ctx context.Context, rec keyRecord) (job.Job, bool, error) {
	j, there, err := o.b.there(ctx, rec.Job)
	if there || err != nil {
		return j, there, err
	}
	if rec, err = o.b.keyRecord(ctx, o.name); err != nil { // after the look: a job that left before it is noted by now
		return job.Job{}, false, unavailable(err)
	}
	if rec.Stored {
		return job.Job{}, true, job.ErrNotFound
	}
	if err := o.admit(); err != nil {
		return job.Job{}, false, err
	}
	return o.enter(ctx, rec.Job)
}

// there returns a job that is there, as Job does. One that was erased, and has not left the log
// yet, is there too: job.ErrNotFound.
func (b *Broker) there(ctx context.Context, id job.ID) (j job.Job, there bool, err error) {
	j, err = b.Job(ctx, id)
	switch {
	case err == nil:
		return j, true, nil
	case !errors.Is(err, job.ErrNotFound):
		return j, false, err
	}
	if _, there = b.standing(id); there {
		return j, true, err
	}
	return j, false, nil
}

// knows reports whether the job of a key's record is there, or was.
func (b *Broker) knows(ctx context.Context, name string) (bool, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rec, err := b.keyRecord(ctx, name)
	switch {
	case errors.Is(err, errNone):
		return false, nil
	case err != nil:
		return false, unavailable(err)
	case rec.Stored || rec.Batch != "":
		return true, nil
	}
	_, there, err := b.there(ctx, rec.Job)
	return there || err != nil, nil
}

// lockKey waits until nobody else uses the key.
func (b *Broker) lockKey(ctx context.Context, name string) (unlock func(), err error) {
	for {
		b.mu.Lock()
		busy := b.keys[name]
		if busy == nil {
			free := make(chan struct{})
			b.keys[name] = free
			b.mu.Unlock()
			return func() { b.unlockKey(name, free) }, nil
		}
		b.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, job.Problemf("in-progress", "The first request with this key is not stored yet.")
		}
	}
}

func (b *Broker) unlockKey(name string, free chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.keys, name)
	close(free)
}

// keyRecord reads what is stored of a key; errNone.
func (b *Broker) keyRecord(ctx context.Context, name string) (rec keyRecord, err error) {
	data, err := b.store.key(ctx, name)
	if err == nil {
		data, err = unseal(name, data)
	}
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	return rec, err
}

func (b *Broker) setKeyRecord(ctx context.Context, name string, rec keyRecord, fresh bool) error {
	place, err := b.store.setKey(ctx, name, seal(name, job.MustJSON(rec)), time.Until(rec.end()), fresh)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.keysEnded = max(b.keysEnded, place)
		if fresh {
			b.keysKept[hourOf(rec.end())]++
		}
	}
	return err
}

// end is when the key is forgotten.
func (r *keyRecord) end() time.Time { return r.Time.Add(keyWindow) }

// dropKey forgets a key under which nothing was stored.
func (b *Broker) dropKey(ctx context.Context, name string, rec keyRecord) {
	if err := b.store.dropKey(ctx, name); err != nil {
		b.log.Warn("the key of a submit that was refused is left to expire", zap.Error(err))
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keysKept[hourOf(rec.end())]--
}

// leaveKey notes with the key of a job that is about to leave the log, if it has one,
// that it was there.
func (b *Broker) leaveKey(j *job.Job) error {
	if j.Once == nil {
		return nil
	}
	rec, err := b.keyRecord(b.ctx, j.Once.Record)
	if errors.Is(err, errNone) || errors.Is(err, errDamaged) || err == nil && (rec.was(j.ID) || !time.Now().Before(rec.end())) {
		return nil // nobody asks for it any more, or it cannot be read
	}
	if err != nil {
		return err
	}
	if rec.Batch != "" {
		return b.leaveBatch(j)
	}
	rec.Stored = true
	return b.setKeyRecord(b.ctx, j.Once.Record, rec, false)
}

// checkKeys reports whether key records are missing or damaged.
func (b *Broker) checkKeys(ctx context.Context, m marks) (lost bool, err error) {
	last, count, err := b.store.keys(ctx)
	if err != nil {
		return false, err
	}
	b.keysEnded, b.keysKept = last, m.KeysKept
	noted := m.KeysKept.sum()
	if last < m.KeysEnded || count < noted {
		b.found("the store has lost idempotency keys", zap.Int("keys", max(1, noted-count)))
	}
	if b.damage == 0 {
		return false, nil
	}
	b.keysKept = keeping{} // what is lost is told once; restoreKey counts those that there are
	return true, nil
}

// restoreKeys does restoreKey for the jobs whose keys are remembered; a batch has one for
// all of its jobs.
func (b *Broker) restoreKeys(ctx context.Context, jobs []*job.Job) error {
	seen := map[string]bool{}
	for _, j := range jobs {
		if seen[j.Once.Record] || !time.Now().Before(j.CreatedAt.Add(keyWindow)) {
			continue
		}
		seen[j.Once.Record] = true
		if err := b.restoreKey(ctx, j, b.jobs[j.ID] == nil); err != nil {
			return err
		}
	}
	return nil
}

// restoreKey counts the key record of a job, and makes it anew if it is missing or
// damaged. Only those of jobs that are gone are lost then.
func (b *Broker) restoreKey(ctx context.Context, j *job.Job, stored bool) error {
	rec := keyRecord{Job: j.ID, Fingerprint: j.Once.Fingerprint, Time: j.CreatedAt, Stored: stored}
	if j.Batch != "" { // which of its jobs there were nobody knows any more, so that none is made again
		rec.Job, rec.Batch, rec.Stored = "", j.Batch, true
	}
	found, err := b.keyRecord(ctx, j.Once.Record)
	missing := errors.Is(err, errNone)
	switch {
	case err == nil:
		b.keysKept[hourOf(found.end())]++
		return nil
	case errors.Is(err, errDamaged):
		b.keysKept[hourOf(rec.end())]++
	case !missing: // setKeyRecord counts one that is
		return err
	}
	return b.setKeyRecord(ctx, j.Once.Record, rec, missing)
}

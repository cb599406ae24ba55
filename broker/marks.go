package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// marks are what the store should have, noted beside the log and the archive: a store
// that was cut at its front or its end, or that lost a block of finished jobs, looks
// like one that never had more.
type marks struct {
	Purged uint64  `json:"purged"` // up to here the log may have been purged
	Head   uint64  `json:"head"`   // so far it had come
	Ended  uint64  `json:"ended"`  // so far the archive had come
	Kept   keeping `json:"kept"`   // what the archive had up to there

	KeysEnded uint64  `json:"keys_ended,omitempty"` // the same of the idempotency keys
	KeysKept  keeping `json:"keys_kept,omitempty"`

	HooksEnded uint64 `json:"hooks_ended,omitempty"` // so far the deliveries had come
}

// keeping counts the finished jobs that expire within each hour, by its number since
// 1970. Those of an hour that has not begun are all there.
type keeping map[int64]int

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

func (k keeping) add(j *job.Job) { k[hourOf(j.ExpiresAt)]++ }

// forget drops the hours that have begun.
func (k keeping) forget(now time.Time) {
	maps.DeleteFunc(k, func(hour int64, _ int) bool { return hour <= hourOf(now) })
}

// sum returns how many there are.
func (k keeping) sum() (n int) {
	for _, more := range k {
		n += more
	}
	return n
}

// missing returns how many k has not of those that were noted.
func (k keeping) missing(noted keeping) (n int) {
	for hour, want := range noted {
		n += max(0, want-k[hour])
	}
	return n
}

// archived counts a job that the archive has. b.mu is held, or nobody else is there yet.
func (b *Broker) archived(j *job.Job, place uint64) {
	b.ended = max(b.ended, place)
	b.kept.add(j)
	b.discardOf(j)
}

// marksSetting is where they are kept.
const marksSetting = "marks"

// saveMarks notes how far the log and the archive have come, and that the log may be
// purged up to a position. That is never taken back: a purge that failed may have been done.
// They are synced first: marks that outlive what they are of would tell of a loss where
// there is none.
func (b *Broker) saveMarks(ctx context.Context, purged uint64) error {
	b.mu.Lock()
	b.purging = max(b.purging, purged)
	b.kept.forget(time.Now())
	b.keysKept.forget(time.Now())
	m := job.MustJSON(marks{Purged: b.purging, Head: b.head, Ended: b.ended, Kept: b.kept, KeysEnded: b.keysEnded, KeysKept: b.keysKept, HooksEnded: b.hooksEnded})
	same := bytes.Equal(m, b.marked)
	b.mu.Unlock()
	if same {
		return nil
	}
	if err := b.store.sync(ctx); err != nil {
		return err
	}
	if err := b.store.set(ctx, marksSetting, m, false); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marked = m
	return nil
}

// lastTime is how long the last marks may take: as long as a disk may be busy. Whoever waits for
// the end has a few seconds.
const lastTime = 5 * time.Second

// lastMarks saves the marks when nobody writes any more: what ends in order knows its end.
func (b *Broker) lastMarks() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), lastTime)
	defer cancel()
	if err := b.saveMarks(ctx, 0); err != nil {
		b.log.Warn("the end of the log not noted", zap.Error(err))
	}
}

// loadMarks reads the marks; those of a new store are zero.
func (b *Broker) loadMarks(ctx context.Context) (m marks, err error) {
	b.marked, err = b.store.setting(ctx, marksSetting)
	switch {
	case errors.Is(err, errNone):
		return marks{KeysKept: keeping{}}, nil
	case err != nil:
		return marks{}, err
	}
	if err := json.Unmarshal(b.marked, &m); err != nil {
		return marks{}, fmt.Errorf("setting %s: %w", marksSetting, err)
	}
	m.Kept.forget(time.Now())
	m.KeysKept.forget(time.Now())
	if m.KeysKept == nil {
		m.KeysKept = keeping{}
	}
	return m, nil
}

// checkLog reports what of the log is missing, which begins at first and ends at last.
func (b *Broker) checkLog(m marks, first, last uint64) {
	if b.marked == nil {
		if b.fresh && last > 0 {
			b.found("the store has lost its settings", zap.Uint64("log ends at", last))
		}
		return // the store is new
	}
	b.purged.Store(m.Purged)
	b.purging = m.Purged
	if first > m.Purged+1 {
		b.cut = true
		b.found("the store has lost the beginning of its log", zap.Uint64("from", m.Purged+1), zap.Uint64("to", first-1))
	}
	if last < m.Head {
		b.found("the store has lost the end of its log", zap.Uint64("from", last+1), zap.Uint64("to", m.Head))
	}
}

// checkArchive reports what of the archive is missing, which ends at ended and has
// kept, and damaged entries besides.
func (b *Broker) checkArchive(m marks, ended uint64, kept keeping, damaged int) {
	if ended < m.Ended {
		b.found("the store has lost the end of its archive", zap.Uint64("from", ended+1), zap.Uint64("to", m.Ended))
	}
	if n := kept.missing(m.Kept) - damaged; n > 0 {
		b.found("the store has lost finished jobs", zap.Int("jobs", n))
	}
}

// found reports damage. Nobody else is there yet.
func (b *Broker) found(what string, where ...zap.Field) {
	b.damage++
	b.log.Error(what, where...)
}

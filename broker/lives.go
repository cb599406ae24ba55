package broker

import (
	"context"
	"encoding/json"
	"errors"

	"go.uber.org/zap"

	"github.com/millstream/millstream/pkg/job"
)

// livesSetting is where the store keeps its lives.
const livesSetting = "lives"

// maxLives is how many are kept: at one start an hour, more than a week of them, which is
// longer than most jobs are.
const maxLives = 256

// life is the time from one start on the store to the next: its messages lie behind where
// the log ended when it began, and have its epoch.
type life struct {
	Epoch  uint64 `json:"epoch"`
	Behind uint64 `json:"behind"` // position
}

// lives are those of the store, oldest first.
type lives []life

// beginLife notes that a life begins behind head. Lives that cannot be read are forgotten,
// as those are that cannot be stored: cursors of them are taken for none.
func (b *Broker) beginLife(ctx context.Context, head uint64) {
	v, err := b.store.setting(ctx, livesSetting)
	if err == nil {
		err = json.Unmarshal(v, &b.lives)
	}
	if err != nil && !errors.Is(err, errNone) {
		b.log.Warn("cursors of many jobs that were given before this start are taken for none", zap.Error(err))
		b.lives = nil
	}
	b.lives = append(b.lives[max(0, len(b.lives)-maxLives+1):], life{b.epoch, head})
	if err := b.store.set(ctx, livesSetting, job.MustJSON(b.lives), false); err != nil {
		b.log.Warn("cursors of many jobs that are given until the next start will be taken for none", zap.Error(err))
	}
}

// Covers reports whether the log has come to the place that the cursor names, in the life
// that it names. Where a store lost its end, or an older copy of it was put back,
// positions come a second time, in another life. Which job's record is there it does not ask.
func (b *Broker) Covers(c job.Cursor) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, l := range b.lives {
		if l.Epoch != c.Epoch {
			continue
		}
		end := b.head
		for _, later := range b.lives[i+1:] { // of which any may have begun where the end was lost
			end = min(end, later.Behind)
		}
		return l.Behind <= c.Position && c.Position <= end
	}
	return false
}

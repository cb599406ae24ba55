package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// marks are what the store should have, noted beside the log: a store that was cut at
// its front or its end looks like one that never had more.
type marks struct {
	Purged uint64 `json:"purged"` // up to here the log may have been purged
	Head   uint64 `json:"head"`   // so far it had come
}

// marksSetting is where they are kept.
const marksSetting = "marks"

// saveMarks notes how far the log has come, and that it may be purged up to a position.
func (b *Broker) saveMarks(purged uint64) error {
	b.mu.Lock()
	m := marks{Purged: purged, Head: b.head}
	same := m == b.marked
	b.mu.Unlock()
	if same {
		return nil
	}
	if err := b.store.set(b.ctx, marksSetting, mustJSON(m), false); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marked = m
	return nil
}

// checkMarks reports what of the log is missing, which begins at first and ends at
// last.
func (b *Broker) checkMarks(ctx context.Context, first, last uint64) error {
	v, err := b.store.setting(ctx, marksSetting)
	if errors.Is(err, errNone) {
		if b.fresh && last > 0 {
			b.found("the store has lost its settings", zap.Uint64("log ends at", last))
		}
		return nil // the store is new
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v, &b.marked); err != nil {
		return fmt.Errorf("setting %s: %w", marksSetting, err)
	}
	b.purged.Store(b.marked.Purged)
	if first > b.marked.Purged+1 {
		b.cut = true
		b.found("the store has lost the beginning of its log", zap.Uint64("from", b.marked.Purged+1), zap.Uint64("to", first-1))
	}
	if last < b.marked.Head {
		b.found("the store has lost the end of its log", zap.Uint64("from", last+1), zap.Uint64("to", b.marked.Head))
	}
	return nil
}

// found reports damage. Nobody else is there yet.
func (b *Broker) found(what string, where ...zap.Field) {
	b.damage++
	b.log.Error(what, where...)
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// epochSetting is where the store keeps the epoch of the process that opened it
// last.
const epochSetting = "epoch"

// firstEpoch is where epochs count from: a recent day, so that they are short.
var firstEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// beginEpoch returns an epoch that no process has had on this store. Every message
// keeps the one it was stored under, so a cursor outlives the process that gave it;
// but where a loss of power, or an older copy put back, lets a position come a second
// time, it comes with another epoch. That copy remembers an older epoch too, so the epoch
// is the time, in milliseconds: nobody puts a copy back within one. It only counts on
// where a clock went back.
func beginEpoch(ctx context.Context, s store) (uint64, error) {
	v, err := s.setting(ctx, epochSetting)
	if err != nil && !errors.Is(err, errNone) {
		return 0, err
	}
	var before uint64
	if err == nil {
		if before, err = strconv.ParseUint(string(v), 10, 64); err != nil {
			return 0, fmt.Errorf("setting %s: %w", epochSetting, err)
		}
	}
	epoch := max(before+1, uint64(max(0, time.Since(firstEpoch).Milliseconds())))
	return epoch, s.set(ctx, epochSetting, strconv.AppendUint(nil, epoch, 10), false)
}

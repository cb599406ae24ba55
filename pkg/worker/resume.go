package worker

import (
	"context"
	"encoding/json"

	"github.com/millstream/millstream/pkg/job"
)

// resume goes on where a process before this one has left the attempt: with its output,
// which is one text with what will follow, and its progress, which does not fall.
func (t *Task) resume(ctx context.Context) error {
	if t.a.Hold == nil {
		return nil
	}
	return t.a.Hold.Earlier(ctx, t.out.recall)
}

// recall takes note of what the attempt has said. There are no other callers yet.
func (o *outbox) recall(r *job.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch r.Type {
	case job.Output:
		var d outputData
		_ = json.Unmarshal(r.Data, &d) // ours
		o.index = d.Index + 1
		o.out.add(d.bytes())
	case job.Progress:
		var d progressData
		_ = json.Unmarshal(r.Data, &d)
		o.meter.last = d.Progress
	case job.Log:
		var d logData
		_ = json.Unmarshal(r.Data, &d)
		if d == (logData{ownStream, cutText}) {
			o.cut, o.dropped = true, 1
		}
	}
}

package tape

import "github.com/millstream/millstream/pkg/job"

// Jump drops all events and lets the tape go on behind first, which may lie
// anywhere. Every mark is overtaken; Seek finds the way back for who stands at
// first. It counts as an append: one goroutine at a time.
func (t *Tape) Jump(first job.Cursor) {
	old := t.now.Load()
	start := Mark{offset: old.head.offset + 1, cursor: first}
	t.now.Store(&view{first: start, head: start})
	old.wake()
}

// Changed returns a channel that is closed at the next append or jump, wherever a
// reader stands.
func (t *Tape) Changed() <-chan struct{} { return t.now.Load().wait() }

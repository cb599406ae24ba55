package tape_test

import (
	"errors"
	"fmt"
	"io"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// A reader that follows a job to its end. What it prints as one block is one
// write to a client.
func ExampleTape() {
	t := tape.New(job.Cursor{}, 1<<20)
	go func() {
		_ = t.Append(event(cursor(1), job.Progress, `{"progress":1}`))
		_ = t.Append(event(cursor(2), job.Progress, `{"progress":2}`), event(cursor(3), job.Succeeded, `{}`))
	}()

	at, err := t.Seek(job.Cursor{})
	for err == nil {
		changed := t.Changed() // before the look: what comes after it closes the channel
		var b tape.Block
		if b, at, err = t.Read(at); err == nil && len(b.Bytes) == 0 {
			<-changed
		}
		for f := range b.Events() {
			fmt.Println(f.ID, f.Type)
		}
	}
	fmt.Println(errors.Is(err, io.EOF))
	// Output:
	// 1-10-1 job.progress
	// 2-20-1 job.progress
	// 3-30-1 job.succeeded
	// true
}

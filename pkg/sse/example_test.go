package sse_test

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/millstream/millstream/pkg/sse"
)

// alive is a stream whose every byte puts off the end.
type alive struct {
	io.Reader
	watchdog *time.Timer
}

func (a alive) Read(b []byte) (int, error) {
	n, err := a.Reader.Read(b)
	if n > 0 {
		a.watchdog.Reset(45 * time.Second)
	}
	return n, err
}

// A client that gives up a stream when nothing comes for three heartbeats.
func ExampleReader() {
	body := strings.NewReader("retry: 2000\n:\nid: 1-7-1\nevent: job.queued\ndata: {}\n\n:\n")
	giveUp := func() { /* cancel the request */ }

	r := sse.NewReader(alive{body, time.AfterFunc(45*time.Second, giveUp)})
	for {
		e, err := r.Next()
		if err != nil {
			wait, _ := r.Retry()
			fmt.Printf("%v: again in %v, after %s", err, wait, r.LastID())
			return
		}
		fmt.Printf("%s %s %s\n", e.ID, e.Type, e.Data)
	}
	// Output:
	// 1-7-1 job.queued {}
	// EOF: again in 2s, after 1-7-1
}

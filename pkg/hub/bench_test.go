package hub

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// BenchmarkFollowers has 10,000 jobs make progress, one event a commit, beside so many readers of many
// jobs, who follow all of them or a hundredth. ns/op is what an event costs the log.
func BenchmarkFollowers(b *testing.B) {
	const jobs = 10_000
	for _, followers := range []int{0, 1, 100} {
		for _, tag := range []bool{false, true} {
			if followers == 0 && tag {
				continue
			}
			b.Run(fmt.Sprintf("followers=%d/hundredth=%t", followers, tag), func(b *testing.B) {
				l := newLog()
				h := New(l, l, Options{})
				h.Jump(job.Cursor{Place: job.Place{Epoch: 1}})
				commits := make([]*job.Commit, jobs)
				for i := range commits {
					j := &job.Job{ID: job.NewID(), Kind: "k", Tags: []string{fmt.Sprint("t", i%100)}}
					commits[i] = &job.Commit{Job: j, Events: []job.Event{{Job: j.ID, Record: job.Record{Type: job.Progress, Attempt: 1, Time: time.Now(), Data: []byte(`{"progress":1,"total":2}`)}}}}
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				read := make(chan int, followers)
				for i := range followers {
					s := job.Selector{}
					if tag {
						s.Tags = []string{fmt.Sprint("t", i%100)}
					}
					r, err := h.OpenMany(ctx, s, job.Cursor{})
					if err != nil {
						b.Fatal(err)
					}
					go func() { read <- drainMany(ctx, r) }()
				}
				b.ReportAllocs()
				b.ResetTimer()
				for n := range b.N {
					c := commits[n%jobs]
					c.Job.Cursor = job.Cursor{Seq: uint64(n/jobs + 1), Place: job.Place{Position: uint64(n + 1), Epoch: 1}}
					c.Events[0].Seq, c.Events[0].Place = c.Job.Cursor.Seq, c.Job.Cursor.Place
					h.Follow(c)
				}
				b.StopTimer()
				cancel()
				sum := 0
				for range followers {
					sum += <-read
				}
				b.ReportMetric(float64(sum)/float64(b.N), "delivered/op")
			})
		}
	}
}

func drainMany(ctx context.Context, r tape.Reader) (n int) {
	defer r.Close()
	for {
		b, err := r.Next(ctx, nil)
		if err != nil {
			return n
		}
		for range b.Events() {
			n++
		}
	}
}

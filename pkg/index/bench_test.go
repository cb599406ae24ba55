package index

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millstream/millstream/pkg/job"
)

// million is how many jobs a day's retention keeps at twelve a second.
const million = 1_000_000

// customers is how many tags they have, beside one that all have.
const customers = 2000

// BenchmarkFold tells what a job costs in the index, once it was submitted and is over.
func BenchmarkFold(b *testing.B) {
	for name, tags := range map[string]int{"usual": customers, "each with a tag of its own": million} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				begin := time.Now()
				x := indexOf(million, tags)
				b.ReportMetric(float64(time.Since(begin).Nanoseconds())/million, "ns/job")
				runtime.GC()
				runtime.ReadMemStats(&after)
				require.Equal(b, million, x.Len())
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/job")
			}
		})
	}
}

// BenchmarkForget tells what it takes to forget a job among others that expire.
func BenchmarkForget(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		x := indexOf(million, customers)
		b.StartTimer()
		begin := time.Now()
		x.forget(begin.Add(25*time.Hour), ignore)
		b.ReportMetric(float64(time.Since(begin).Nanoseconds())/million, "ns/job")
		require.Zero(b, x.Len())
	}
}

// BenchmarkList tells what a page of 20 out of a million jobs takes.
func BenchmarkList(b *testing.B) {
	x := indexOf(million, customers)
	middle := x.List(job.Query{Limit: 1, Before: time.Now().Add(-time.Hour + million/2*3*time.Millisecond)})
	for _, c := range []struct {
		name  string
		query job.Query
	}{
		{"all", job.Query{}},
		{"all, from the middle on", job.Query{After: middle.Next}},
		{"kind", job.Query{Selector: job.Selector{Kinds: []string{"kind-7"}}}},
		{"failed", job.Query{Statuses: []job.Status{job.StatusFailed}}},
		{"kind and failed", job.Query{Selector: job.Selector{Kinds: []string{"kind-0"}}, Statuses: []job.Status{job.StatusFailed}}},
		{"tag of 500 jobs", job.Query{Selector: job.Selector{Tags: []string{"customer-000007"}}}},
		{"two tags", job.Query{Selector: job.Selector{Tags: []string{"nightly", "customer-000007"}}}},
		{"the last minute of it", job.Query{Since: time.Now().Add(-11 * time.Minute)}},
		{"no such tag", job.Query{Selector: job.Selector{Tags: []string{"none"}}}},
		{"none running", job.Query{Statuses: []job.Status{job.StatusRunning}}},
		{"nothing matches: kind and failed", job.Query{Selector: job.Selector{Kinds: []string{"kind-7"}}, Statuses: []job.Status{job.StatusFailed}}},
		{"nothing matches: two tags", job.Query{Selector: job.Selector{Tags: []string{"nightly", "customer-000007"}}, Statuses: []job.Status{job.StatusFailed}}},
		{"nothing matches: kind and tags", job.Query{Selector: job.Selector{Tags: []string{"nightly", "customer-000007"}, Kinds: []string{"kind-0"}}}},
	} {
		c.query.Limit = 20
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				x.List(c.query)
			}
		})
	}
}

// indexOf returns an index of n jobs as they come in a day: 20 kinds, two tags, one of
// which is that of a customer, one in a hundred failed.
func indexOf(n, customers int) *Index {
	var log asked
	x := New(&log)
	day := time.Now().Add(-time.Hour)
	for i := range n {
		j := job.Job{
			ID: job.NewID(), Kind: "kind-" + strconv.Itoa(i%20), Owner: "anonymous", Status: job.StatusQueued,
			CreatedAt: day.Add(time.Duration(i) * 3 * time.Millisecond), Tags: []string{fmt.Sprintf("customer-%06d", i*7%customers), "nightly"},
		}
		x.fold(j)
		j.Status, j.ExpiresAt = job.StatusSucceeded, j.CreatedAt.Add(24*time.Hour)
		if i%100 == 0 {
			j.Status = job.StatusFailed
		}
		x.fold(j)
	}
	return x
}

package tape_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millstream/millstream/pkg/job"
	"github.com/millstream/millstream/pkg/tape"
)

// progress is an event of the usual size at seq.
func progress(seq uint64) job.Event {
	return event(cursor(seq), job.Progress, `{"progress":42,"total":100,"message":"encoding"}`)
}

func BenchmarkAppend(b *testing.B) {
	e := progress(1)
	tp := tape.New(job.Cursor{}, 1<<20)
	b.SetBytes(int64(len(tape.AppendFrame(nil, &e))))
	b.ReportAllocs()
	seq := uint64(0)
	for b.Loop() {
		seq++
		e.Seq = seq
		if err := tp.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}

// A job that has two events and is over: what most tapes are.
func BenchmarkSmallTape(b *testing.B) {
	events := []job.Event{progress(1), progress(2)}
	b.ReportAllocs()
	for b.Loop() {
		if err := tape.New(job.Cursor{}, 1<<20).Append(events...); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkRead(b *testing.B, pending int) {
	tp := filled(b, 1000, 100, plenty)
	m := seek(b, tp, cursor(uint64(1000-pending)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := tp.Read(m); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkReadOne(b *testing.B) { benchmarkRead(b, 1) }
func BenchmarkReadTen(b *testing.B) { benchmarkRead(b, 10) }

// The first of many blocks: its end has to be searched for.
func BenchmarkReadMaxBlock(b *testing.B) {
	tp := filled(b, 20000, 100, plenty)
	m := seek(b, tp, job.Cursor{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tp.Read(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeek(b *testing.B) {
	tp := filled(b, 5000, 100, plenty)
	b.ReportAllocs()
	seq := uint64(0)
	for b.Loop() {
		seq = seq%5000 + 1
		if _, err := tp.Seek(cursor(seq)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvents(b *testing.B) {
	block := tape.Encode(run(0, 100, 100)...)
	n := 0
	b.SetBytes(int64(len(block.Bytes)))
	b.ReportAllocs()
	for b.Loop() {
		for f := range block.Events() {
			n += len(f.JSON)
		}
	}
}

// One event to a thousand sleeping readers: the time is for all of them.
func BenchmarkWakeThousand(b *testing.B) {
	const readers = 1000
	tp := tape.New(job.Cursor{}, 1<<20)
	var wg sync.WaitGroup
	var woken atomic.Int64
	all := make(chan struct{}, 1)
	for range readers {
		m := seek(b, tp, job.Cursor{})
		wg.Go(func() {
			for {
				changed := tp.Changed()
				block, next, err := tp.Read(m)
				m = next
				switch {
				case err != nil:
					return
				case len(block.Bytes) > 0:
					if woken.Add(1)%readers == 0 {
						all <- struct{}{}
					}
				default:
					<-changed
				}
			}
		})
	}
	e := progress(0)
	b.ReportAllocs()
	for b.Loop() {
		e.Seq++
		if err := tp.Append(e); err != nil {
			b.Fatal(err)
		}
		<-all
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/readers, "ns/reader")
	e.Seq++
	e.Type = job.Failed
	if err := tp.Append(e); err != nil {
		b.Fatal(err)
	}
	go func() { // the last event wakes them too
		for range all {
		}
	}()
	wg.Wait()
	close(all)
}

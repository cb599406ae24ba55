package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/millstream/millstream/bench/internal/mill"
)

// lists are the pages that are asked for, by what they have.
var lists = []struct{ what, query string }{
	{"the newest 20", "limit=20"},
	{"the newest 100", "limit=100"},
	{"20 that are over", "status=succeeded&limit=20"},
	{"100 that are over", "status=succeeded&limit=100"},
	{"none: no job is of that status", "status=canceled"},
	{"none: none of that kind is of that status", "kind=" + mill.Wait + "&status=succeeded"},
}

// list measures pages of a list of jobs that wait and jobs that are over.
func list(b *bench) error {
	s, err := b.mill()
	if err != nil {
		return err
	}
	if err := b.fill(s); err != nil {
		return err
	}
	n := commas(fmt.Sprint(b.size.stored))
	t := b.report.table("Lists", fmt.Sprintf("`GET /v1/jobs` over %s jobs that are over and, newer, %s that wait; %d times a round, one at a time.", n, n, b.size.resumes),
		"page", "p50", "p99")
	for _, l := range lists {
		if err := b.pages(t, s, l.what, l.query); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pages(t *table, s *server, what, query string) error {
	var p50, p99 series
	for range b.size.rounds {
		var times []time.Duration
		for range b.size.resumes {
			begin := time.Now()
			if _, err := get(s.url + "/v1/jobs?" + query); err != nil {
				return err
			}
			times = append(times, time.Since(begin))
		}
		slices.Sort(times)
		p50.add(percentile(times, 50))
		p99.add(percentile(times, 99))
	}
	t.row(what, p50.as(seconds), p99.as(seconds))
	return nil
}

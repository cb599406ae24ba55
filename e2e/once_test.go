package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A thousand keys, five racing submits of each, and a server that is killed in the
// middle of them: a key is one job. What each submitter was told is all that is looked
// at, and afterwards what the server has.
func TestOneKeyIsOneJob(t *testing.T) {
	t.Parallel()
	keys, kills := 200, 4
	if *soak {
		keys, kills = 1000, 20
	}
	const racers = 5
	t.Logf("seed %d", *seed)
	r := rand.New(rand.NewPCG(*seed, 1))
	s := start(t, object{"kinds": object{"k": object{"max_attempts": 1000, "exec": object{"command": []string{"cat"}}}}})
	var told atomic.Int64
	var mu sync.Mutex
	ids := map[string]map[string]int{}
	var racing sync.WaitGroup
	for n := range keys * racers {
		key := fmt.Sprint("key-", n%keys)
		racing.Go(func() {
			id := insist(t, s, key)
			told.Add(1)
			mu.Lock()
			defer mu.Unlock()
			if ids[key] == nil {
				ids[key] = map[string]int{}
			}
			ids[key][id]++
		})
	}
	for n := range kills {
		until := int64(keys*racers) * int64(n) / int64(kills)
		eventually(t, "submits go on", func() bool { return told.Load() >= until+r.Int64N(20) })
		s.kill()
		s.boot()
	}
	racing.Wait()
	jobs := map[string]bool{}
	for key, of := range ids {
		require.Len(t, of, 1, key)
		for id := range of {
			jobs[id] = true
			eventually(t, "it ends", func() bool { return s.job(id).Status == "succeeded" })
		}
	}
	require.Len(t, jobs, keys)
	for key, of := range ids { // also after the end, and after another restart
		a := submitWithKey(t, s, key)
		require.Equal(t, 200, a.Status)
		require.Equal(t, "true", a.Header.Get("Idempotency-Replayed"))
		require.Equal(t, 1, len(of))
	}
	t.Logf("%d keys, %d submits, %d kills: %d jobs", keys, keys*racers, kills, len(jobs))
}

// insist submits with a key until it is told the job.
func insist(t *testing.T, s *server, key string) string {
	for again := time.NewTicker(20 * time.Millisecond); ; {
		body := strings.NewReader(`{"kind":"k","input":"x"}`)
		resp, err := send(t.Context(), s.base, "POST", "/v1/jobs", body, "Content-Type", "application/json", "Idempotency-Key", key)
		if err == nil {
			var j jobState
			err = json.NewDecoder(resp.Body).Decode(&j)
			_ = resp.Body.Close()
			if err == nil && j.ID != "" {
				return j.ID
			}
		}
		select {
		case <-again.C:
		case <-t.Context().Done():
			return "never told"
		}
	}
}

func submitWithKey(t *testing.T, s *server, key string) answer {
	return s.ask("POST", "/v1/jobs", strings.NewReader(`{"kind":"k","input":"x"}`), "Content-Type", "application/json", "Idempotency-Key", key)
}

// A batch with a key that is repeated until it is answered, by several at a time, while
// the server is killed again and again: one batch, and each of its jobs once.
func TestOneKeyIsOneBatch(t *testing.T) {
	t.Parallel()
	const jobs, racers = 300, 3
	rounds := 2
	if *soak {
		rounds = 30
	}
	t.Logf("seed %d", *seed)
	r := rand.New(rand.NewPCG(*seed, 2))
	s := start(t, object{"kinds": object{"k": object{"max_attempts": 1000, "exec": object{"command": []string{"cat"}}}}})
	all := map[string]bool{}
	for round := range rounds {
		key := fmt.Sprint("batch-", round)
		told := make(chan []string, racers)
		for range racers {
			go func() { told <- insistOnBatch(t, s, key, jobs) }()
		}
		for range 3 {
			some := 1 + r.IntN(jobs)
			depth := 0
			for end := time.Now().Add(patience); len(told) == 0 && depth < some; depth = depthOf(s, "k") { // at once: it takes milliseconds
				require.True(t, time.Now().Before(end), "it goes on")
			}
			t.Logf("killed at %d of %d, %d told", depth, jobs, len(told))
			s.kill()
			s.boot()
		}
		first := <-told
		require.Len(t, first, jobs+1, "a batch, and its jobs")
		for range racers - 1 {
			require.Equal(t, first, <-told)
		}
		for _, id := range first[1:] {
			require.False(t, all[id])
			all[id] = true
			eventually(t, "it ends", func() bool { return s.job(id).Status == "succeeded" })
		}
		require.Equal(t, first, insistOnBatch(t, s, key, jobs), "also after the end")
	}
	s.kill()
	out, err := s.offline("verify")
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), fmt.Sprintf("jobs: 0 live, %d finished", rounds*jobs), "and none besides")
}

// depthOf returns how many jobs of a kind wait or run; 0 if nobody answers.
func depthOf(s *server, kind string) int {
	resp, err := http.Get(s.base + "/v1/kinds/" + kind)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var k struct{ Queue struct{ Queued, Running int } }
	_ = json.NewDecoder(resp.Body).Decode(&k)
	return k.Queue.Queued + k.Queue.Running
}

// insistOnBatch submits a batch until all of its jobs are stored, and returns its id and
// theirs.
func insistOnBatch(t *testing.T, s *server, key string, jobs int) []string {
	body := strings.Repeat(`{"kind":"k","input":"x"}`+"\n", jobs)
	for again := time.NewTicker(20 * time.Millisecond); ; {
		resp, err := send(t.Context(), s.base, "POST", "/v1/jobs", strings.NewReader(body), "Content-Type", "application/x-ndjson", "Idempotency-Key", key)
		if err == nil {
			var b struct {
				Batch string
				Jobs  []jobState
			}
			err = json.NewDecoder(resp.Body).Decode(&b)
			_ = resp.Body.Close()
			ids := []string{b.Batch}
			for _, j := range b.Jobs {
				if j.ID != "" {
					ids = append(ids, j.ID)
				}
			}
			if err == nil && len(ids) == jobs+1 {
				return ids
			}
		}
		select {
		case <-again.C:
		case <-t.Context().Done():
			return nil
		}
	}
}

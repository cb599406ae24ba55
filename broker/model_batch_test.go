package broker

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// modelBatch is what should be of a batch: each of its items one job, however often it is
// submitted, or none.
type modelBatch struct {
	key      string // "": it came without, and comes once
	requests []*job.Request
	id       string            // "": nothing of it is stored yet
	jobs     map[int]*modelJob // those that are known, by their places
}

// fresh returns a batch that nobody has submitted: of jobs, of one that is refused because it is
// late, and of items that were none before they came to the log.
func (m *model) fresh(t *rapid.T) *modelBatch {
	if len(m.jobs) > 2 {
		t.Skip("enough for things to happen to each")
	}
	g := &modelBatch{jobs: map[int]*modelJob{}}
	if rapid.Bool().Draw(t, "keyed") {
		g.key = fmt.Sprint("key ", len(m.batches))
	}
	for i, item := range rapid.SliceOfN(rapid.SampledFrom([]string{testKind, pulledKind, "late", ""}), 1, 3).Draw(t, "items") {
		r := &job.Request{Kind: item, Input: fmt.Append(nil, i)}
		switch item {
		case "":
			r = nil
		case "late":
			r.Kind, r.Deadline = testKind, time.Now().Add(-time.Second)
		}
		g.requests = append(g.requests, r)
	}
	if !slices.ContainsFunc(g.requests, good) {
		g.requests = append(g.requests, &job.Request{Kind: testKind, Input: []byte("in")})
	}
	m.batches = append(m.batches, g)
	return g
}

// good reports whether a request is to become a job.
func good(r *job.Request) bool { return r != nil && r.Deadline.IsZero() }

func (m *model) submitBatch(t *rapid.T) { m.require(t, m.fresh(t)) }

// repeat submits a batch with a key once more.
func (m *model) repeat(t *rapid.T) {
	g := m.keyed(t)
	m.require(t, g)
	m.require(t, g)
}

// repeatAll submits each batch that has a key once more: then it is there as a whole.
func (m *model) repeatAll(t *rapid.T) {
	for _, g := range m.batches {
		if g.key != "" {
			m.require(t, g)
		}
	}
}

// misuse comes with the key of a batch and something else.
func (m *model) misuse(t *rapid.T) {
	g := m.keyed(t)
	if g.id == "" {
		t.Skip("it is not used yet")
	}
	_, err := m.now.SubmitAll(context.Background(), g.key, "another", g.requests)
	require.ErrorIs(t, err, errKeyReused)
	_, _, err = m.now.SubmitOnce(context.Background(), g.key, "fingerprint", g.requests[slices.IndexFunc(g.requests, good)])
	require.ErrorIs(t, err, errKeyReused)
}

func (m *model) keyed(t *rapid.T) *modelBatch {
	var list []*modelBatch
	for _, g := range m.batches {
		if g.key != "" {
			list = append(list, g)
		}
	}
	if len(list) == 0 {
		t.Skip("no batches with a key")
	}
	return rapid.SampledFrom(list).Draw(t, "batch")
}

func (m *model) send(g *modelBatch) (job.Batch, error) {
	return m.now.SubmitAll(context.Background(), g.key, "fingerprint", g.requests)
}

// require submits a batch and looks whether it is answered with its jobs: those that there
// are as they are, and those that there are not as new ones.
func (m *model) require(t *rapid.T, g *modelBatch) {
	got, err := m.send(g)
	require.NoError(t, err)
	require.Len(t, got.Outcomes, len(g.requests))
	require.Equal(t, g.id != "", got.Replayed)
	m.learn(t, g, got.ID)
	for i, o := range got.Outcomes {
		switch r := g.requests[i]; {
		case r == nil:
			require.Zero(t, o)
		case !good(r):
			require.Error(t, o.Err)
			require.Zero(t, o.Job)
		case g.jobs[i] != nil:
			require.NoError(t, o.Err)
			require.Equal(t, g.jobs[i].id, o.Job.ID)
			require.Equal(t, m.status(t, g.jobs[i]), o.Job.Status)
		default:
			require.NoError(t, o.Err)
			require.Equal(t, job.StatusQueued, o.Job.Status)
			m.know(t, g, i, o.Job.ID)
		}
	}
}

// learn notes under which id a batch is stored: always the same.
func (m *model) learn(t *rapid.T, g *modelBatch, id string) {
	require.True(t, job.ValidBatchID(id))
	if g.id != "" {
		require.Equal(t, g.id, id)
	}
	g.id = id
}

// know notes a job of a batch, which nobody has seen before.
func (m *model) know(t *rapid.T, g *modelBatch, i int, id job.ID) {
	require.Equal(t, job.IDIn(g.id, i), id)
	require.Nil(t, m.known(id))
	got, err := m.now.Job(context.Background(), id)
	require.NoError(t, err)
	require.Equal(t, g.id, got.Batch)
	j := &modelJob{id: id, pulled: g.requests[i].Kind == pulledKind}
	g.jobs[i] = j
	m.jobs = append(m.jobs, j)
}

func (m *model) known(id job.ID) *modelJob {
	if i := slices.IndexFunc(m.jobs, func(j *modelJob) bool { return j.id == id }); i >= 0 {
		return m.jobs[i]
	}
	return nil
}

// batchDies has a process die at some step of a batch. What it told is there in the next,
// and so may be some of what it did not.
func (m *model) batchDies(t *rapid.T) {
	g := m.fresh(t)
	c := &crash{store: shared{m.memory}, left: math.MaxInt}
	m.on = c
	m.die(t)
	c.mu.Lock()
	c.left, c.after = rapid.IntRange(1, len(g.requests)+2).Draw(t, "steps"), rapid.Bool().Draw(t, "done")
	c.mu.Unlock()
	told, err := m.send(g)
	m.on = nil
	m.die(t)
	m.adopt(t, g)
	for i, o := range told.Outcomes {
		if err == nil && good(g.requests[i]) && o.Err == nil {
			require.NotNil(t, g.jobs[i], "it was told")
			require.Equal(t, g.jobs[i].id, o.Job.ID)
		}
	}
}

// adopt takes what the log has and the model does not know for jobs of a batch whose answer
// nobody read.
func (m *model) adopt(t *rapid.T, g *modelBatch) {
	if rec, err := m.now.keyRecord(context.Background(), keyName("", g.key)); g.key != "" && err == nil {
		m.learn(t, g, rec.Batch)
	}
	for _, j := range m.strangers() {
		require.False(t, j.Batch == "")
		m.learn(t, g, j.Batch)
		i := j.ID.IndexIn()
		require.Less(t, i, len(g.requests))
		require.True(t, good(g.requests[i]))
		m.know(t, g, i, j.ID)
	}
}

// strangers returns the jobs in the log that the model does not know.
func (m *model) strangers() (list []job.Job) {
	m.now.mu.Lock()
	defer m.now.mu.Unlock()
	for id, e := range m.now.jobs {
		if e.job.Exists() && m.known(id) == nil {
			list = append(list, e.job)
		}
	}
	return list
}

package index

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

// ids returns all that a query asks for, page by page.
func (x *Index) ids(q job.Query) (ids []job.ID) {
	q.Limit = cmp.Or(q.Limit, 2)
	for {
		p := x.List(q)
		for _, j := range p.Jobs {
			ids = append(ids, j.ID)
		}
		if p.Next == (job.ListCursor{}) {
			return ids
		}
		q.After = p.Next
	}
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func at(milli int) time.Time { return noon.Add(time.Duration(milli) * time.Millisecond) }

// zoo returns an index of seven jobs, made a millisecond apart but for the last two.
func zoo() *Index {
	var log asked
	x := New(&log)
	kept := time.Now().Add(time.Hour)
	for n, j := range []job.Job{
		{Kind: "hash", Owner: "ann", Status: job.StatusQueued, Tags: []string{"a", "b"}},
		{Kind: "hash", Owner: "bob", Status: job.StatusRunning, Tags: []string{"b", "a", "über"}},
		{Kind: "scan", Owner: "ann", Status: job.StatusSucceeded, Tags: []string{"a"}, Batch: "b1"},
		{Kind: "scan", Owner: "ann", Status: job.StatusFailed, Batch: "b1"},
		{Kind: "copy", Owner: "ann", Status: job.StatusCanceled, Batch: "b2"},
		{Kind: "copy", Owner: "bob", Status: job.StatusQueued, Tags: []string{"日本語 🎌"}},
		{Kind: "copy", Owner: "bob", Status: job.StatusQueued, Tags: []string{"c", "c"}},
	} {
		j.ID, j.CreatedAt = id(n), at(min(n, 5))
		if j.Status.Over() {
			j.ExpiresAt = kept
		}
		x.fold(j)
	}
	return x
}

func TestFilters(t *testing.T) {
	for name, tc := range map[string]struct {
		query job.Query
		want  []int
	}{
		"all":                      {job.Query{}, []int{6, 5, 4, 3, 2, 1, 0}},
		"owner":                    {job.Query{Selector: job.Selector{Owner: "bob"}}, []int{6, 5, 1}},
		"nobody's":                 {job.Query{Selector: job.Selector{Owner: "eve"}}, nil},
		"queued":                   {job.Query{Statuses: []job.Status{job.StatusQueued}}, []int{6, 5, 0}},
		"running":                  {job.Query{Statuses: []job.Status{job.StatusRunning}}, []int{1}},
		"over":                     {job.Query{Statuses: []job.Status{job.StatusSucceeded, job.StatusFailed, job.StatusCanceled}}, []int{4, 3, 2}},
		"a kind":                   {job.Query{Selector: job.Selector{Kinds: []string{"scan"}}}, []int{3, 2}},
		"one of two kinds":         {job.Query{Selector: job.Selector{Kinds: []string{"scan", "hash"}}}, []int{3, 2, 1, 0}},
		"a kind that nobody has":   {job.Query{Selector: job.Selector{Kinds: []string{"none"}}}, nil},
		"one of which nobody has":  {job.Query{Selector: job.Selector{Kinds: []string{"none", "scan"}}}, []int{3, 2}},
		"a tag":                    {job.Query{Selector: job.Selector{Tags: []string{"a"}}}, []int{2, 1, 0}},
		"two tags":                 {job.Query{Selector: job.Selector{Tags: []string{"b", "a"}}}, []int{1, 0}},
		"the same tag twice":       {job.Query{Selector: job.Selector{Tags: []string{"c", "c"}}}, []int{6}},
		"unicode":                  {job.Query{Selector: job.Selector{Tags: []string{"日本語 🎌"}}}, []int{5}},
		"unicode of another form":  {job.Query{Selector: job.Selector{Tags: []string{"u\u0308ber"}}}, nil},
		"one that nobody has":      {job.Query{Selector: job.Selector{Tags: []string{"a", "z"}}}, nil},
		"tags that never meet":     {job.Query{Selector: job.Selector{Tags: []string{"a", "c"}}}, nil},
		"part of a tag":            {job.Query{Selector: job.Selector{Tags: []string{"日本語"}}}, nil},
		"batch":                    {job.Query{Selector: job.Selector{Batch: "b1"}}, []int{3, 2}},
		"a batch that is not":      {job.Query{Selector: job.Selector{Batch: "b3"}}, nil},
		"since, the same moment":   {job.Query{Since: at(3)}, []int{6, 5, 4, 3}},
		"since, a little later":    {job.Query{Since: at(3).Add(1)}, []int{6, 5, 4}},
		"since later than all":     {job.Query{Since: at(6)}, nil},
		"before, the same moment":  {job.Query{Before: at(3)}, []int{2, 1, 0}},
		"before, a little later":   {job.Query{Before: at(3).Add(1)}, []int{3, 2, 1, 0}},
		"before all":               {job.Query{Before: at(0)}, nil},
		"between":                  {job.Query{Since: at(1), Before: at(5)}, []int{4, 3, 2, 1}},
		"between nothing":          {job.Query{Since: at(3), Before: at(3)}, nil},
		"all at once":              {job.Query{Selector: job.Selector{Owner: "ann", Kinds: []string{"scan"}, Batch: "b1"}, Statuses: []job.Status{job.StatusFailed}, Since: at(3), Before: at(4)}, []int{3}},
		"all at once, and nothing": {job.Query{Selector: job.Selector{Owner: "ann", Kinds: []string{"scan"}, Tags: []string{"a"}, Batch: "b1"}, Statuses: []job.Status{job.StatusFailed}}, nil},
		"far away times":           {job.Query{Since: time.Unix(-1<<40, 0), Before: time.Unix(1<<40, 0)}, []int{6, 5, 4, 3, 2, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			x := zoo()
			var want []job.ID
			for _, n := range tc.want {
				want = append(want, id(n))
			}
			for _, tc.query.Limit = range []int{1, 2, 3, 100} {
				require.Equal(t, want, x.ids(tc.query), tc.query.Limit)
			}
		})
	}
}

// A page that is full says whether there is more: 0, 1, as many as the limit, and one more.
func TestPages(t *testing.T) {
	x := zoo()
	const all = 7
	for _, limit := range []int{1, all - 1, all, all + 1} {
		p := x.List(job.Query{Limit: limit})
		require.Len(t, p.Jobs, min(limit, all))
		require.Equal(t, limit < all, p.Next != job.ListCursor{}, limit)
	}
	p := x.List(job.Query{Limit: 3, After: job.ListCursor{Created: at(0).UnixMilli(), ID: id(0)}})
	require.Zero(t, p, "nothing is older than the oldest")
	p = x.List(job.Query{Limit: 9, After: job.ListCursor{Created: at(5).UnixMilli(), ID: id(6)}})
	require.Len(t, p.Jobs, 6, "one of two of the same millisecond")
	p = x.List(job.Query{Limit: 9, Before: at(2), After: job.ListCursor{Created: at(5).UnixMilli(), ID: id(6)}})
	require.Len(t, p.Jobs, 2, "the nearer of the two ends")
	p = x.List(job.Query{Limit: 9, Before: at(5), After: job.ListCursor{Created: at(2).UnixMilli(), ID: id(2)}})
	require.Len(t, p.Jobs, 2)
}

// A page does so much and no more: it ends with what it has.
func TestPageEndsWithoutBeingFull(t *testing.T) {
	var log asked
	x := New(&log)
	x.most = 3 * x.step
	x.fold(job.Job{ID: id(0), Kind: "rare", Status: job.StatusQueued, CreatedAt: at(0)})
	for n := range x.most {
		x.fold(job.Job{ID: id(n + 1), Kind: "usual", Status: job.StatusQueued, CreatedAt: at(n)})
	}
	p := x.List(job.Query{Selector: job.Selector{Kinds: []string{"rare"}}, Limit: 5})
	require.Empty(t, p.Jobs)
	require.NotZero(t, p.Next)
	p = x.List(job.Query{Selector: job.Selector{Kinds: []string{"rare"}}, Limit: 5, After: p.Next})
	require.Equal(t, []job.ListCursor{{Created: at(0).UnixMilli(), ID: id(0)}}, p.Jobs)
	require.Zero(t, p.Next)
	p = x.List(job.Query{Selector: job.Selector{Tags: []string{"none"}}, Limit: 5})
	require.Zero(t, p, "what no job has is not looked for")
	p = x.List(job.Query{Statuses: []job.Status{job.StatusFailed}, Limit: 5})
	require.Zero(t, p)
}

// Whatever comes, changes and goes between two pages, and between two steps of one: a
// job that is there all the time and fits all the time is seen once, in its place.
func TestPagingIsSteady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log asked
		x := New(&log)
		x.step, x.most = rapid.IntRange(1, 9).Draw(t, "step"), rapid.IntRange(1, 40).Draw(t, "most")
		m := &model{t: t, index: x, jobs: map[job.ID]job.Job{}}
		m.query.Limit = rapid.IntRange(1, 7).Draw(t, "limit")
		if rapid.Bool().Draw(t, "by status") {
			m.query.Statuses = []job.Status{job.StatusQueued, job.StatusRunning}
		}
		if rapid.Bool().Draw(t, "by tag") {
			m.query.Tags = []string{"t0"}
		}
		for range rapid.IntRange(0, 60).Draw(t, "before") {
			m.come()
		}
		m.steady = m.matching()
		seen := m.all()
		require.True(t, slices.IsSortedFunc(seen, func(a, b job.ID) int { return compare(m.place(b), m.place(a)) }), "newest first")
		require.Len(t, seen, len(slices.Compact(slices.Clone(seen))), "none twice")
		require.ElementsMatch(t, m.steady, slices.DeleteFunc(seen, func(id job.ID) bool { return !slices.Contains(m.steady, id) }))
		m.end()
	})
}

// model has the jobs that are to be in the index.
type model struct {
	t      *rapid.T
	index  *Index
	jobs   map[job.ID]job.Job // with those that have gone, without a status
	last   int
	query  job.Query
	steady []job.ID // those that fitted all the time
}

// all returns what all pages have, with others at work all the time.
func (m *model) all() (seen []job.ID) {
	for q, n := m.query, 0; ; n++ {
		s := newScan(&q)
		for looks := 0; !s.over && looks < m.index.most; looks += m.index.step {
			m.index.look(s)
			m.disturb(n)
		}
		p := s.result()
		require.LessOrEqual(m.t, len(p.Jobs), q.Limit)
		for _, j := range p.Jobs {
			seen = append(seen, j.ID)
		}
		if q.After = p.Next; q.After == (job.ListCursor{}) {
			return seen
		}
		m.disturb(n)
	}
}

// come adds a job; the clock of their creation is coarse, and goes back sometimes.
func (m *model) come() {
	m.last++
	j := job.Job{
		ID: id(m.last*7919%4096 + 1), Kind: "k" + strconv.Itoa(m.last%3), Status: job.StatusQueued,
		CreatedAt: at(rapid.IntRange(0, 20).Draw(m.t, "created")), Tags: []string{"t" + strconv.Itoa(rapid.IntRange(0, 2).Draw(m.t, "tag")), "t2"},
	}
	m.jobs[j.ID] = j
	m.index.fold(j)
}

// disturb has some jobs come, change and go, and gets tired of it.
func (m *model) disturb(n int) {
	for range rapid.IntRange(0, max(0, 6-n)).Draw(m.t, "comes") {
		m.come()
	}
	for _, id := range m.living() {
		switch j := m.jobs[id]; rapid.IntRange(0, 9).Draw(m.t, "becomes") {
		case 0:
			j.Status = job.StatusRunning
			m.fold(j)
		case 1:
			j.Status, j.ExpiresAt = job.StatusFailed, time.Now().Add(time.Hour)
			m.fold(j)
		case 2:
			j.Status, j.ExpiresAt = job.StatusFailed, time.Now().Add(-time.Hour)
			m.fold(j)
			j.Status = ""
			m.jobs[id] = j
		case 3:
			j.Erased = true
			m.fold(j)
			j.Status = ""
			m.jobs[id] = j
		}
	}
	if rapid.Bool().Draw(m.t, "sweep") {
		m.index.forget(time.Now().Add(20*time.Second), ignore)
	}
	m.steady = slices.DeleteFunc(m.steady, func(id job.ID) bool { return !m.fits(id) })
}

func (m *model) fold(j job.Job) {
	m.jobs[j.ID] = j
	m.index.fold(j)
}

// living returns the jobs that are not over, in an order of their own.
func (m *model) living() (ids []job.ID) {
	for id, j := range m.jobs {
		if j.Status != "" && !j.Status.Over() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// end has all jobs go, and nothing is left of them.
func (m *model) end() {
	for _, id := range m.living() {
		j := m.jobs[id]
		j.Status, j.ExpiresAt = job.StatusCanceled, time.Now()
		m.index.fold(j)
	}
	m.index.forget(time.Now().Add(2*time.Hour), ignore)
	m.index.requireEmpty(m.t)
}

func (m *model) place(id job.ID) place {
	b, _ := id.Bytes()
	return place{m.jobs[id].CreatedAt.UnixMilli(), b}
}

func (m *model) matching() (ids []job.ID) {
	for id := range m.jobs {
		if m.fits(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *model) fits(id job.ID) bool {
	j := m.jobs[id]
	return m.query.WithStatus(j.Status) && (len(m.query.Tags) == 0 || slices.Contains(j.Tags, m.query.Tags[0]))
}

// A handle that is another text's by the next step does not let its jobs in.
func TestHandleOfAnotherText(t *testing.T) {
	var log asked
	x := New(&log)
	x.step = 1
	for n, kind := range []string{"old", "new", "old"} {
		x.fold(job.Job{ID: id(n), Kind: kind, Status: job.StatusQueued, CreatedAt: at(n)})
	}
	s := newScan(&job.Query{Selector: job.Selector{Kinds: []string{"old"}}, Limit: 9})
	x.look(s)
	x.fold(job.Job{ID: id(0), Erased: true})
	x.fold(job.Job{ID: id(2), Erased: true})
	x.fold(job.Job{ID: id(0), Kind: "newer", Status: job.StatusQueued, CreatedAt: at(0)})
	require.Len(t, x.kinds.texts, 3)
	for !s.over {
		x.look(s)
	}
	require.Len(t, s.result().Jobs, 1)
}

// Folds and lists go on side by side.
func TestListWhileOthersFold(t *testing.T) {
	var log asked
	x := New(&log)
	x.step = 10
	const steady, busy = 300, 3000
	for n := range steady {
		x.fold(job.Job{ID: id(n), Kind: "steady", Status: job.StatusQueued, CreatedAt: at(n)})
	}
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for n := range busy {
				j := job.Job{ID: id(steady + w*busy + n), Kind: "busy", Tags: []string{strconv.Itoa(n % 50)}, Status: job.StatusQueued, CreatedAt: at(n % steady)}
				x.fold(j)
				j.Status, j.ExpiresAt = job.StatusFailed, time.Now()
				x.fold(j)
				x.forgetSome(turnAt(time.Now().UnixMilli()) + int64(n))
			}
		})
	}
	for range 20 {
		require.Len(t, x.ids(job.Query{Selector: job.Selector{Kinds: []string{"steady"}}, Limit: 7}), steady)
		require.GreaterOrEqual(t, len(x.ids(job.Query{Limit: 50})), steady)
	}
	wg.Wait()
	x.forget(time.Now().Add(2*busy*sweepTime), ignore)
	require.Equal(t, steady, x.Len())
}

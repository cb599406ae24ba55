package job_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

var now = time.Date(2026, 11, 22, 10, 0, 3, 120e6, time.UTC)

// queuedWith is a first record.
func queuedWith(q *job.Request) job.Record {
	return job.Record{Seq: 1, Type: job.Queued, Attempt: 1, Time: now, Private: &job.Private{Request: q},
		Data: job.MustData(job.QueuedData{Kind: "k", Attempt: 1, Reason: job.ReasonSubmitted})}
}

// fold folds records of these types, seq from 1.
func fold(t require.TestingT, types ...job.Type) (j job.Job, err error) {
	for i, typ := range types {
		r := job.Record{Seq: uint64(i + 1), Type: typ, Attempt: 1, Time: now.Add(time.Duration(i) * time.Second)}
		if i == 0 {
			r = queuedWith(&job.Request{MaxAttempts: 3, Retention: time.Hour, Tags: []string{"a"}})
			r.Type = typ
		}
		if err = j.Fold(&r, job.Place{Position: uint64(10 * (i + 1)), Epoch: 1}); err != nil {
			return j, err
		}
	}
	return j, nil
}

func TestFoldEdges(t *testing.T) {
	q, r := job.Queued, job.Running
	for _, c := range []struct {
		types []job.Type
		want  job.Status // "": refused
	}{
		{[]job.Type{q}, job.StatusQueued},
		{[]job.Type{q, r}, job.StatusRunning},
		{[]job.Type{q, r, job.Progress, "custom", job.Log, job.Output}, job.StatusRunning},
		{[]job.Type{q, r, job.AttemptFailed, q, r, job.Succeeded}, job.StatusSucceeded},
		{[]job.Type{q, r, q, r, job.Failed}, job.StatusFailed},
		{[]job.Type{q, job.Canceled}, job.StatusCanceled},
		{[]job.Type{q, job.Failed}, job.StatusFailed},
		{[]job.Type{q, r, job.CancelRequested, job.Progress, job.Canceled}, job.StatusCanceled},
		{[]job.Type{r}, ""},
		{[]job.Type{q, q}, ""},
		{[]job.Type{q, r, r}, ""},
		{[]job.Type{q, job.Succeeded}, ""},
		{[]job.Type{q, job.CancelRequested}, ""},
		{[]job.Type{q, job.Progress}, ""},
		{[]job.Type{q, "custom"}, ""},
		{[]job.Type{q, r, "job.custom"}, ""},
		{[]job.Type{q, r, job.StreamReset}, ""},
		{[]job.Type{q, r, "error"}, ""},
		{[]job.Type{q, r, job.Succeeded, job.Failed}, ""},
		{[]job.Type{q, r, job.Failed, q}, ""},
		{[]job.Type{q, r, job.Canceled, job.Log}, ""},
	} {
		j, err := fold(t, c.types...)
		if c.want == "" {
			require.ErrorIs(t, err, job.ErrFold, "%v", c.types)
			require.Len(t, c.types, int(j.Cursor.Seq)+1, "only the last is refused: %v", c.types)
			continue
		}
		require.NoError(t, err, "%v", c.types)
		require.Equal(t, c.want, j.Status, "%v", c.types)
		require.Equal(t, c.want.Over(), !j.ExpiresAt.IsZero())
	}
}

func TestFoldRefusesHoles(t *testing.T) {
	j, err := fold(t, job.Queued, job.Running)
	require.NoError(t, err)
	for _, seq := range []uint64{0, 1, 2, 4, 1 << 63} {
		before := j
		err := j.Fold(&job.Record{Seq: seq, Type: job.Progress}, job.Place{})
		require.ErrorIs(t, err, job.ErrFold)
		require.Equal(t, before, j, "a refused record changes nothing")
	}
}

func TestFoldKeepsWhatTheRecordsSay(t *testing.T) {
	j, err := fold(t, job.Queued, job.Running, job.CancelRequested, job.CancelRequested, job.Succeeded)
	require.NoError(t, err)
	require.Equal(t, now, j.CreatedAt)
	require.Equal(t, now.Add(time.Second), j.StartedAt)
	require.Equal(t, now.Add(2*time.Second), j.CancelRequestedAt, "the first request counts")
	require.Equal(t, now.Add(4*time.Second), j.FinishedAt)
	require.Equal(t, now.Add(4*time.Second+time.Hour), j.ExpiresAt)
	require.Equal(t, "5-50-1", j.Cursor.String())
	require.Zero(t, j.Lease)
	require.Nil(t, j.Request)
	require.Equal(t, []string{"a"}, j.Tags)
	require.False(t, j.Expired(now.Add(time.Hour)))
	require.True(t, j.Expired(j.ExpiresAt))
}

// The last failures of a job are kept for the error that ends it, shortened, and only
// for that.
func TestFoldKeepsFailures(t *testing.T) {
	j, err := fold(t, job.Queued)
	require.NoError(t, err)
	add := func(r job.Record) {
		r.Seq = j.Cursor.Seq + 1
		require.NoError(t, j.Fold(&r, job.Place{}))
	}
	for n := 1; n <= 12; n++ {
		add(job.Record{Type: job.Running, Attempt: n})
		if n == 5 {
			add(job.Record{Type: job.Queued, Attempt: 6, Data: job.MustData(job.QueuedData{Reason: job.ReasonLeaseLost})})
			continue
		}
		p := job.Problemf("exit-status", "%s", strings.Repeat("é", 400))
		add(job.Record{Type: job.AttemptFailed, Attempt: n, Data: job.MustData(map[string]any{"error": p})})
		add(job.Record{Type: job.Queued, Attempt: n + 1, Data: job.MustData(job.QueuedData{Reason: job.ReasonRetry})})
	}
	require.Len(t, j.Failures, 10)
	for i, f := range j.Failures {
		require.Equal(t, i+3, f.Attempt)
		if f.Attempt == 5 {
			require.Equal(t, "lease-lost", f.Name())
			continue
		}
		require.Equal(t, strings.Repeat("é", 250)+"…", f.Detail)
	}
	add(job.Record{Type: job.Failed})
	require.Nil(t, j.Failures)
}

func TestOverdue(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		job  job.Job
		due  time.Duration // after at; 0: never
		name string
	}{
		"nothing asked":  {job.Job{Status: job.StatusQueued, Request: &job.Request{}}, 0, ""},
		"deadline":       {job.Job{Status: job.StatusQueued, Request: &job.Request{Deadline: at.Add(time.Hour)}}, time.Hour, "deadline-exceeded"},
		"start":          {job.Job{Status: job.StatusQueued, CreatedAt: at, Request: &job.Request{StartTimeout: time.Minute}}, time.Minute, "start-timeout"},
		"start of later": {job.Job{Status: job.StatusQueued, CreatedAt: at, RunAt: at.Add(time.Hour), Request: &job.Request{StartTimeout: time.Minute}}, time.Hour + time.Minute, "start-timeout"},
		"started before": {job.Job{Status: job.StatusQueued, CreatedAt: at, StartedAt: at, Request: &job.Request{StartTimeout: time.Minute}}, 0, ""},
		"the first":      {job.Job{Status: job.StatusQueued, CreatedAt: at, Request: &job.Request{StartTimeout: time.Hour, Deadline: at.Add(time.Minute)}}, time.Minute, "deadline-exceeded"},
		"runs":           {job.Job{Status: job.StatusRunning, Request: &job.Request{Deadline: at.Add(time.Hour)}}, 0, ""},
		"is over":        {job.Job{Status: job.StatusFailed}, 0, ""},
	} {
		if c.due == 0 {
			require.Zero(t, c.job.DueAt(), name)
			require.Nil(t, c.job.Overdue(at.AddDate(100, 0, 0)), name)
			continue
		}
		require.Equal(t, at.Add(c.due), c.job.DueAt(), name)
		require.Nil(t, c.job.Overdue(at.Add(c.due-1)), name)
		require.Equal(t, c.name, c.job.Overdue(at.Add(c.due)).Name(), name)
	}
}

// A random history never leaves the table of states: one terminal record at most,
// and it is the last; the attempt never falls.
func TestFoldModel(t *testing.T) {
	types := []job.Type{job.Queued, job.Running, job.Progress, job.Output, job.Log, job.CancelRequested, job.AttemptFailed,
		job.Succeeded, job.Failed, job.Canceled, "custom", "stream.end", "job.other", "bad name"}
	rapid.Check(t, func(t *rapid.T) {
		var j job.Job
		attempt, over := 0, false
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			r := job.Record{Seq: j.Cursor.Seq + 1, Type: rapid.SampledFrom(types).Draw(t, "type"), Attempt: max(1, j.Attempt), Time: now}
			if r.Type == job.Queued && j.Exists() {
				r.Attempt += rapid.IntRange(0, 1).Draw(t, "next")
			}
			before := j
			if err := j.Fold(&r, job.Place{Position: 1}); err != nil {
				require.Equal(t, before, j)
				continue
			}
			require.False(t, over, "a record behind the terminal one")
			require.Equal(t, r.Type.Terminal(), j.Status.Over())
			require.GreaterOrEqual(t, j.Attempt, attempt)
			require.False(t, j.Status != job.StatusRunning && j.Lease != 0, "only a running job has a lease")
			attempt, over = j.Attempt, j.Status.Over()
		}
	})
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data, err := job.Data(rapid.OneOf(
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.MapOf(rapid.String(), rapid.Int()), func(m map[string]int) any { return m }),
			rapid.Just[any](nil),
		).Draw(t, "data"))
		require.NoError(t, err)
		want := job.Record{
			Seq: rapid.Uint64Min(1).Draw(t, "seq"), Type: job.Type(rapid.StringMatching(`[A-Za-z][A-Za-z0-9._-]{0,63}`).Draw(t, "type")),
			Attempt: rapid.IntRange(0, 1000).Draw(t, "attempt"), Data: data,
			Time: time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "time")).UTC(),
		}
		if rapid.Bool().Draw(t, "private") {
			want.Private = &job.Private{Node: rapid.String().Draw(t, "node"), Result: &job.Result{Type: rapid.String().Draw(t, "media")}}
			b, _ := json.Marshal(want.Private) // invalid UTF-8 is replaced, once
			want.Private = new(job.Private)
			require.NoError(t, json.Unmarshal(b, want.Private))
		}
		id := job.NewID()
		line := want.AppendLine(nil, id)
		require.Equal(t, 1, strings.Count(string(line), "\n"), "a record is one line")
		got, gotID, err := job.ParseLine(line[:len(line)-1])
		require.NoError(t, err)
		require.Equal(t, id, gotID)
		require.Equal(t, want, got)

		e := job.Event{Record: want, Job: id, Place: job.Place{Position: 7, Epoch: 2}}
		var back job.Event
		require.NoError(t, json.Unmarshal(e.AppendJSON(nil), &back))
		e.Private = nil
		require.Equal(t, e, back)
	})
}

func TestEventJSON(t *testing.T) {
	e := job.Event{
		Record: job.Record{Seq: 7, Type: job.Progress, Attempt: 1, Time: now, Data: json.RawMessage(`{"progress":42,"total":100,"message":"encoding"}`)},
		Job:    "job_01k3z900000000000000000000", Place: job.Place{Position: 18423, Epoch: 1},
	}
	require.Equal(t, `{"id":"7-18423-1","seq":7,"type":"job.progress","job":"job_01k3z900000000000000000000","attempt":1,"time":"2026-11-22T10:00:03.120Z",`+
		`"data":{"progress":42,"total":100,"message":"encoding"}}`, string(e.AppendJSON(nil)))
	e.Data = nil
	require.True(t, strings.HasSuffix(string(e.AppendJSON(nil)), `"data":{}}`))
}

// Every time that a client sees has one form, and what was written in another is
// still read.
func TestTimesHaveOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"2026-11-22T10:00:03.12Z":           "2026-11-22T10:00:03.120Z",
		"2026-11-22T10:00:03Z":              "2026-11-22T10:00:03.000Z",
		"2026-11-22T12:00:03.0009999+02:00": "2026-11-22T10:00:03.000Z",
	} {
		var at job.Time
		require.NoError(t, json.Unmarshal([]byte(`"`+text+`"`), &at))
		require.Equal(t, want, at.String())
		require.Equal(t, `"`+want+`"`, string(job.MustData(at)))

		var q job.QueuedData
		require.NoError(t, json.Unmarshal([]byte(`{"kind":"k","run_at":"`+text+`","attempt":2,"reason":"retry"}`), &q))
		require.Equal(t, `{"kind":"k","run_at":"`+want+`","attempt":2,"reason":"retry"}`, string(job.MustData(q)))
		require.Equal(t, `{"attempt":1,"worker":"w","timeout_at":"`+want+`"}`, string(job.MustData(job.RunningData{Attempt: 1, Worker: "w", TimeoutAt: at})))
	}
	require.Equal(t, "null", string(job.MustData(job.Time{})))
	require.Equal(t, `{"kind":"k","run_at":null,"attempt":1,"reason":"submitted"}`, string(queuedWith(nil).Data))
}

func TestData(t *testing.T) {
	for in, want := range map[string]string{
		`{"a" : 1,` + "\n" + `"b":"\u2028"}`: `{"a":1,"b":"\u2028"}`,
		"\"a\xffb\"":                         "\"a\uFFFDb\"",
		``:                                   `{}`,
		`null`:                               `null`,
	} {
		got, err := job.Data(json.RawMessage(in))
		require.NoError(t, err, in)
		require.Equal(t, want, string(got))
	}
	for _, bad := range []string{`{`, `{}{}`, "\"\n\"", `nul`} {
		_, err := job.Data(json.RawMessage(bad))
		require.Error(t, err, bad)
	}
	_, err := job.Data(func() {})
	require.Error(t, err)
}

func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := job.Cursor{Seq: rapid.Uint64().Draw(t, "seq"), Place: job.Place{Position: rapid.Uint64().Draw(t, "position"), Epoch: rapid.Uint64().Draw(t, "epoch")}}
		got, err := job.ParseCursor(c.String())
		require.NoError(t, err)
		require.Equal(t, c, got)
		require.Regexp(t, `^[A-Za-z0-9_-]{1,64}$`, c.String())
	})
	for _, bad := range []string{"", "7", "7-8", "7-8-9-1", "07-8-9", "+7-8-9", "-7-8-9", "7-8-18446744073709551616", "18446744073709551616-1-1", "7-8-9 ", "7--9", "a-b-c", strings.Repeat("1", 100)} {
		_, err := job.ParseCursor(bad)
		require.ErrorIs(t, err, job.ErrCursor, "%q", bad)
	}
}

func TestIDs(t *testing.T) {
	seen := map[job.ID]bool{}
	var last job.ID
	for range 10_000 {
		id := job.NewID()
		require.True(t, job.ValidID(string(id)), id)
		require.False(t, seen[id])
		require.Greater(t, id, last, "ids sort by time")
		seen[id], last = true, id
	}
	require.Equal(t, last, job.IDFor("any", string(last)))
	require.Equal(t, job.IDFor("a", "1"), job.IDFor("a", "1"))
	require.NotEqual(t, job.IDFor("a", "1"), job.IDFor("b", "1"))
	require.NotEqual(t, job.IDFor("a", "1"), job.IDFor("a", "2"))
	require.True(t, job.ValidID(string(job.IDFor("a", "*.>"))))
	good := string(last)
	for _, bad := range []string{"", "*", ">", "a.b", "job_", "job_*", good + "0", good[:len(good)-1], strings.ToUpper(good), "job_8" + good[5:],
		good[:10] + "." + good[11:], good[:10] + "\x00" + good[11:], good[:10] + "u" + good[11:], "$JS.API.>", strings.Repeat("x", 300)} {
		require.False(t, job.ValidID(bad), "%q", bad)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "word_count-2": true, strings.Repeat("k", 64): true,
		"": false, strings.Repeat("k", 65): false, "a.b": false, "a b": false, "*": false, ">": false, "é": false, "a\n": false,
	} {
		require.Equal(t, want, job.ValidKind(name), "%q", name)
	}
	for typ, want := range map[job.Type]bool{
		"a": true, "job.progress": true, "response.output_text.delta": true, job.Type("a" + strings.Repeat("b", 63)): true,
		"": false, job.Type("a" + strings.Repeat("b", 64)): false, "1a": false, ".a": false, "a b": false, "a\nb": false, "a:b": false,
		"error": false, "open": false, "message": false, "é": false,
	} {
		require.Equal(t, want, job.ValidType(typ), "%q", typ)
	}
	require.True(t, job.Type("job.custom").Reserved())
	require.True(t, job.StreamEnd.Reserved())
	require.False(t, job.Type("jobs").Reserved())
}

func TestProblem(t *testing.T) {
	p := job.Problemf("too-large", "at most %d", 5)
	require.Equal(t, "at most 5", p.Error())
	require.Equal(t, "too-large", p.Name())
	require.ErrorIs(t, p, job.ErrTooLarge)
	require.NotErrorIs(t, p, job.ErrNotFound)
	require.Equal(t, "There is no such thing", job.ErrNotFound.Error())

	p.RetryAfter = time.Second
	wrapped := errors.Join(errors.New("other"), p)
	got := job.ProblemOf(wrapped, 2)
	require.Equal(t, 2, got.Attempt)
	require.Zero(t, p.Attempt, "a copy")
	require.False(t, got.Retryable)
	require.True(t, job.ProblemOf(errors.New("any"), 1).Retryable)
	require.JSONEq(t, `{"type":"/problems/attempt-failed","title":"The attempt failed","detail":"any","retryable":true,"attempt":1}`,
		string(job.ProblemOf(errors.New("any"), 1).JSON()))
	for name := range job.Titles {
		require.NotEmpty(t, job.Problemf(name, "").Title)
	}
}

func TestBackoff(t *testing.T) {
	b := job.Backoff{First: time.Second, Max: 10 * time.Second}
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 5: 10 * time.Second, 1000: 10 * time.Second} {
		for range 100 {
			require.InDelta(t, want, b.After(attempt), 0.2*float64(want)+1)
		}
	}
}

func TestRules(t *testing.T) {
	kinds := map[string]job.Kind{"a": {Name: "a", MaxAttempts: 7}, job.AnyKind: {MaxAttempts: 9}}
	require.Equal(t, 7, job.Rules(kinds, "a").MaxAttempts)
	require.Equal(t, 9, job.Rules(kinds, "b").MaxAttempts)
	require.Equal(t, "b", job.Rules(kinds, "b").Name)
	require.Equal(t, job.DefaultMaxAttempts, job.Rules(nil, "b").MaxAttempts)
	require.False(t, job.ValidKind(job.AnyKind))
}

func FuzzParseLine(f *testing.F) {
	r := queuedWith(&job.Request{})
	f.Add(r.AppendLine(nil, job.NewID()))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, id, err := job.ParseLine(line)
		if err != nil || r.Private != nil {
			return
		}
		again, _, err := job.ParseLine(r.AppendLine(nil, id)[:len(r.AppendLine(nil, id))-1])
		if err == nil && (again.Seq != r.Seq || again.Type != r.Type) {
			t.Fatalf("%q", line)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := job.ParseCursor(s); err == nil && c.String() != s {
			t.Fatalf("%q and %q are one place", s, c)
		}
	})
}

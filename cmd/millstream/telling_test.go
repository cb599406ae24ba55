package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

func problemWith(status int, name string) *job.Problem {
	p := job.Problemf(name, "because of %s", name)
	p.Status = status
	return p
}

// takes is a server that takes reports of so many bytes.
func takes(most int) *boss {
	return &boss{refuses: func(_ []job.Said, size int) *job.Problem {
		if size > most {
			return problemWith(http.StatusRequestEntityTooLarge, "too-large")
		}
		return nil
	}}
}

// all returns what was said, and the output of it, which has no holes.
func (b *boss) all(t require.TestingT) (said []job.Said, output string) {
	for _, r := range b.reports {
		for _, e := range r {
			said = append(said, e)
			if e.Type == job.Output {
				c, chunk := parsePlaced(e.Data)
				require.EqualValues(t, len(output), c.Offset)
				require.True(t, c.Encoding != "" || utf8.ValidString(c.Chunk))
				output += string(chunk)
			}
		}
	}
	return said, output
}

// A report is no larger than a server takes, however much is said at a time; what is
// between < and > takes no more of it than anything else.
func TestReporterSaysNoMoreBytesThanTheServerTakes(t *testing.T) {
	largest := 0
	b := &boss{refuses: func(_ []job.Said, size int) *job.Problem { largest = max(largest, size); return nil }}
	r, _ := b.reporter(t)
	var recs []job.Record
	for range 30 {
		recs = append(recs, outputRecord(strings.Repeat("<", 60_000)))
	}
	require.NoError(t, r.Append(t.Context(), recs...))
	_, output := b.all(t)
	require.Len(t, output, 1_800_000)
	require.LessOrEqual(t, largest, maxReportSize+2)
	require.Len(t, b.reports, 8)
}

// With a server that takes less, reports become smaller, and stay so.
func TestReporterOfAServerThatTakesLittle(t *testing.T) {
	b := takes(1000)
	refused := 0
	count := b.refuses
	b.refuses = func(said []job.Said, size int) *job.Problem {
		p := count(said, size)
		if p != nil {
			refused++
		}
		return p
	}
	r, _ := b.reporter(t)
	for range 2 {
		var recs []job.Record
		for i := range 100 {
			recs = append(recs, job.Record{Type: job.Log, Data: fmt.Appendf(nil, `{"line":"%d"}`, i)})
		}
		require.NoError(t, r.Append(t.Context(), recs...))
	}
	require.Equal(t, 2, refused, "all of it, and half of it; then it is known")
	said, _ := b.all(t)
	require.Len(t, said, 200)
	for i, e := range said {
		require.Equal(t, fmt.Sprintf(`{"line":"%d"}`, i%100), string(e.Data))
	}
}

// Output comes whole, in any pieces; a text stays one.
func TestReporterCutsOutput(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := takes(rapid.IntRange(150, 2000).Draw(rt, "most"))
		r, _ := b.reporter(t)
		var want string
		var recs []job.Record
		for range rapid.IntRange(1, 4).Draw(rt, "chunks") {
			data := map[string]any{"chunk": ""}
			chunk := rapid.StringN(0, 300, -1).Draw(rt, "text")
			data["chunk"] = chunk
			if rapid.Bool().Draw(rt, "bytes") {
				data["chunk"], data["encoding"] = []byte(chunk), "base64"
			}
			want += chunk
			recs = append(recs, job.Record{Type: job.Output, Data: job.MustData(data)})
		}
		require.NoError(rt, r.Append(t.Context(), recs...))
		_, output := b.all(rt)
		require.Equal(rt, want, output)
	})
}

// Of what the server does not take it is said that it is missing, and all else is said.
func TestReporterLeavesOut(t *testing.T) {
	own := func(typ string, n int) job.Record {
		return job.Record{Type: job.Type(typ), Data: []byte(`"` + strings.Repeat("x", n) + `"`)}
	}
	for _, status := range []int{400, 422} {
		b := &boss{refuses: func(said []job.Said, _ int) *job.Problem {
			for _, e := range said {
				if strings.HasPrefix(string(e.Type), "bad") {
					return problemWith(status, "invalid-input")
				}
			}
			return nil
		}}
		r, _ := b.reporter(t)
		require.NoError(t, r.Append(t.Context(), own("a", 1), own("bad.1", 1), own("b", 1), outputRecord("x"), own("c", 1), own("bad.2", 1), own("d", 1)))
		said, _ := b.all(t)
		var types []string
		for _, e := range said {
			types = append(types, string(e.Type))
		}
		require.Equal(t, []string{"a", "job.log", "b", "job.output", "c", "job.log", "d"}, types)
		require.JSONEq(t, `{"stream":"millstream","line":"an event bad.1 was left out: because of invalid-input"}`, string(said[1].Data))
	}
	b := takes(500)
	r, _ := b.reporter(t)
	require.NoError(t, r.Append(t.Context(), own("a", 1), own("large", 500), own("b", 1)))
	said, _ := b.all(t)
	require.Len(t, said, 3)
	require.Equal(t, job.Log, said[1].Type)
}

// What is wrong with more than what was said ends the attempt, and so does output that the
// server does not take.
func TestReporterGivesUp(t *testing.T) {
	for _, c := range []struct {
		rec     job.Record
		status  int
		problem string
		asked   int
	}{
		{outputRecord("x"), 400, "invalid-request", 1},
		{outputRecord("x"), 413, "too-large", 1},
		{outputRecord("xy"), 413, "too-large", 2},
		{outputRecord("xy"), 413, "forbidden", 2}, // a proxy does not say what it is called
		{job.Record{Type: "own", Data: json.RawMessage(`1`)}, 400, "wrong-host", 2},
		{job.Record{Type: "own", Data: json.RawMessage(`1`)}, 401, "unauthenticated", 1},
		{job.Record{Type: "own", Data: json.RawMessage(`1`)}, 404, "not-found", 1},
		{job.Record{Type: "own", Data: json.RawMessage(`1`)}, 409, "lease-lost", 1},
		{job.Record{Type: "own", Data: json.RawMessage(`1`)}, 507, "job-damaged", 1},
	} {
		asked := 0
		b := &boss{refuses: func([]job.Said, int) *job.Problem { asked++; return problemWith(c.status, c.problem) }}
		r, _ := b.reporter(t)
		require.ErrorIs(t, r.Append(t.Context(), c.rec), job.Problemf(c.problem, ""))
		require.Equal(t, c.asked, asked, "%v", c)
	}
}

// A result that the server does not take is a failure, of which the job tells, and the
// next attempt would have the same.
func TestFinish_refused(t *testing.T) {
	for _, c := range []struct {
		status int
		name   string
		told   string
		said   []job.Type
	}{
		{400, "invalid-request", "failed: the server does not take the result: because of invalid-request", []job.Type{job.Succeeded, job.Failed}},
		{413, "too-large", "failed: the server does not take the result: because of too-large", []job.Type{job.Succeeded, job.Failed}},
		{422, "invalid-input", "failed: the server does not take the result: because of invalid-input", []job.Type{job.Succeeded, job.Failed}},
		{409, "lease-lost", "is over, but that was not taken: because of lease-lost", []job.Type{job.Succeeded}},
		{403, "forbidden", "failed: the server does not take the result: because of forbidden", []job.Type{job.Succeeded, job.Failed}},
		{503, "draining", "succeeded", []job.Type{job.Succeeded, job.Succeeded}},
	} {
		var types []job.Type
		b := &boss{refuses: func(said []job.Said, _ int) *job.Problem {
			if types = append(types, said[0].Type); len(types) > 1 {
				return nil
			}
			return problemWith(c.status, c.name)
		}}
		r, _ := b.reporter(t)
		require.Equal(t, c.told, r.finish(job.Said{Type: job.Succeeded, Data: []byte(`{"result":null}`)}))
		require.Equal(t, c.said, types)
		if c.said[len(c.said)-1] == job.Failed {
			require.JSONEq(t, `{"error":{"type":"/problems/invalid-result","retryable":false,"detail":"the server does not take the result: because of `+c.name+`"}}`, string(b.reports[0][0].Data))
		}
	}
}

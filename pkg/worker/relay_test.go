package worker

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/millstream/millstream/pkg/job"
)

func TestParseEvent(t *testing.T) {
	for _, tt := range []struct{ line, typ, data string }{
		{`{"type":"own","data":{"a":1}}`, "own", `{"a":1}`},
		{` {"data": null, "type": "own"} ` + "\r", "own", `null`},
		{`{"type":"own"}`, "own", `{}`},
		{`{"type":"job.progress","data":1}`, "job.progress", `1`},
		{`{"type":"job.output"}`, "job.output", `{}`},
		{`{"type":"job.log"}`, "job.log", `{}`},
		{line: ``},
		{line: `own`},
		{line: `{}`},
		{line: `null`},
		{line: `[]`},
		{line: `{"type":1}`},
		{line: `{"type":"own","data":1,"more":2}`},
		{line: `{"type":"own"}{"type":"own"}`},
		{line: `{"type":"own"}x`},
		{line: `{"type":"message"}`},
		{line: `{"type":"job.succeeded"}`},
		{line: `{"type":"job.queued"}`},
		{line: `{"type":"stream.end"}`},
		{line: `{"type":"a b"}`},
	} {
		e, err := parseEvent([]byte(tt.line))
		if tt.typ == "" {
			require.Error(t, err, tt.line)
			continue
		}
		require.NoError(t, err, tt.line)
		require.Equal(t, event{job.Type(tt.typ), json.RawMessage(tt.data)}, e)
	}
}

// Whatever a program writes, what comes out is something a worker may say, and
// reads the same when it is said again.
func FuzzParseEvent(f *testing.F) {
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEvent(line)
		if err != nil {
			require.Equal(t, event{}, e)
			return
		}
		require.True(t, job.ValidType(e.Type))
		require.True(t, !e.Type.Reserved() || e.Type == job.Progress || e.Type == job.Output || e.Type == job.Log)
		data, err := job.Data(e.Data)
		require.NoError(t, err)
		require.NotContains(t, string(data), "\n")
		again, err := json.Marshal(map[string]any{"type": e.Type, "data": e.Data})
		require.NoError(t, err)
		_, err = parseEvent(again)
		require.NoError(t, err)
	})
}

func TestForeignNames(t *testing.T) {
	for from, want := range map[job.Type]job.Type{
		"token":                           "token",
		"message":                         "upstream.message",
		"error":                           "upstream.error",
		"open":                            "upstream.open",
		"job.succeeded":                   "upstream.job.succeeded",
		"stream.end":                      "upstream.stream.end",
		"a b":                             "upstream.message",
		"1":                               "upstream.1",
		job.Type(strings.Repeat("x", 65)): "upstream.message",
	} {
		require.Equal(t, want, foreignType(from))
		require.True(t, job.ValidType(foreignType(from)))
	}
}

func TestForeignData(t *testing.T) {
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	rather := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	for from, want := range map[string]string{
		deep:       `"` + deep + `"`,
		rather:     `"` + rather + `"`,
		`{"a": 1}`: `{"a": 1}`,
		`42`:       `42`,
		` 42`:      `" 42"`,
		"null\n":   `"null\n"`,
		`[DONE]`:   `"[DONE]"`,
		`a <b>`:    `"a <b>"`,
		``:         `""`,
	} {
		require.Equal(t, want, string(foreignData([]byte(from))))
	}
}

// splitReader returns at most size bytes at a time.
type splitReader struct {
	rest []byte
	size int
}

func (r *splitReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(r.size, len(p))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func TestEachLineIsTheLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(8, 40).Draw(t, "limit")
		text := strings.Join(rapid.SliceOf(rapid.StringOfN(rapid.RuneFrom([]rune("ab€😀")), 0, 60, -1)).Draw(t, "lines"), "\n")
		var got strings.Builder
		from := &splitReader{rest: []byte(text), size: rapid.IntRange(1, 100).Draw(t, "read")}
		inside := false
		err := eachLine(from, limit, func(piece []byte, more bool) error {
			require.LessOrEqual(t, len(piece), limit)
			require.NotContains(t, string(piece), "\n")
			require.Equal(t, strings.ToValidUTF8(string(piece), "?"), string(piece))
			inside = more
			got.Write(piece)
			if !more {
				got.WriteByte('\n')
			}
			return nil
		})
		require.NoError(t, err)
		require.False(t, inside, "every line has an end")
		want := text
		if !strings.HasSuffix(want, "\n") && want != "" {
			want += "\n"
		}
		require.Equal(t, want, got.String())
	})
}

func TestTailKeepsTheEnd(t *testing.T) {
	k := tail{max: 10}
	for i := range 1000 {
		_, _ = k.Write([]byte{'a' + byte(i%26)})
		require.LessOrEqual(t, len(k.b), 20)
	}
	require.Equal(t, "cdefghijkl", k.String())
	_, _ = k.Write([]byte("0123456789 the end \n"))
	require.Equal(t, "the end", k.String())
}
